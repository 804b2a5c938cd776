import CofferFormat

/// What all segments of one place say together.
struct LogPlan {
    /// Where new files may be.
    struct Making: Hashable {
        var path: [StoredName]
        /// Nothing that is new is older than this, in seconds since 1970.
        var since: Int64
    }

    /// The plans for files, in the order in which the log heard of them.
    var files: [RecoveryPlan] = []
    /// The places where new files may be.
    private(set) var making: [Making] = []
    private var index: [[UInt8]: Int] = [:]
    private var moves: [(from: [StoredName], to: [StoredName])] = []

    /// Takes a record in that speaks of places; false for any other.
    mutating func takePlace(_ record: LogRecord) -> Bool {
        switch record {
        case .making(let since, let path):
            for path in placesBefore(path) { add(Making(path: path, since: since)) }
            return true
        case .moved(let from, let to):
            for number in files.indices {
                for path in files[number].paths.reversed() {
                    if let moved = Self.replacing(from, by: to, in: path) { files[number].add(moved) }
                }
            }
            for place in making {
                // What was made there may be what moves.
                if let moved = Self.replacing(from, by: to, in: place.path) {
                    add(Making(path: moved, since: place.since))
                } else if from.starts(with: place.path) {
                    add(Making(path: to, since: place.since))
                }
            }
            moves.append((from, to))
            return true
        default: return false
        }
    }

    /// The file with this header is at this path. Returns where its plan is.
    mutating func introduce(header: [UInt8], path: [StoredName], isNew: Bool, isForeign: Bool) -> Int {
        let id = Array(header[8..<24])
        let number: Int
        if let known = index[id] {
            number = known
        } else {
            number = files.count
            index[id] = number
            files.append(RecoveryPlan(header: header, path: path, isNew: isNew, isForeign: isForeign))
        }
        for place in placesBefore(path).reversed() { files[number].add(place) }
        return number
    }

    /// Where an object at a path may be if moves that the log knows of did not come to the disk; the path itself first.
    private func placesBefore(_ path: [StoredName]) -> [[StoredName]] {
        var places = [path]
        for move in moves.reversed() {
            for place in places {
                if let before = Self.replacing(move.to, by: move.from, in: place), !places.contains(before) {
                    places.append(before)
                }
            }
        }
        return places
    }

    private mutating func add(_ place: Making) {
        if !making.contains(place) { making.append(place) }
    }

    private static func replacing(
        _ prefix: [StoredName], by other: [StoredName], in path: [StoredName]
    ) -> [StoredName]? {
        path.starts(with: prefix) ? other + path.dropFirst(prefix.count) : nil
    }
}
