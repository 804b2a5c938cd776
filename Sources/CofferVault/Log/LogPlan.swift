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
    private var makingPaths: Set<[StoredName]> = []
    private var moves: [(from: [StoredName], to: [StoredName])] = []
    /// Which moves went to a place.
    private var movesTo: [[StoredName]: [Int]] = [:]
    /// Which files were seen, or may be, at a place or below it.
    private var filesAt: [[StoredName]: Set<Int>] = [:]
    /// Where one file is looked for at most.
    private static let placeLimit = 32

    /// Takes a record in that speaks of places; false for any other.
    mutating func takePlace(_ record: LogRecord) -> Bool {
        switch record {
        case .making(let since, let path):
            for path in placesBefore(path) { add(Making(path: path, since: since)) }
            return true
        case .moved(let from, let to):
            for number in filesAt[from] ?? [] {
                let paths = files[number].paths
                // Where it was before may have moved too, and it be still there: entries may come to the disk in any order.
                for path in paths.dropFirst() {
                    if let moved = Self.replacing(from, by: to, in: path) { add(moved, to: number, isLast: true) }
                }
                if let moved = Self.replacing(from, by: to, in: paths[0]) { add(moved, to: number) }
            }
            takeMaking(from, to)
            movesTo[to, default: []].append(moves.count)
            moves.append((from, to))
            return true
        default: return false
        }
    }

    /// What was made there may be what moves; where it goes to a place that is known as well, it is found there.
    private mutating func takeMaking(_ from: [StoredName], _ to: [StoredName]) {
        let isKnown = makingPaths.contains(Array(to.dropLast()))
        for place in making {
            if let moved = Self.replacing(from, by: to, in: place.path) {
                add(Making(path: moved, since: place.since))
            } else if !isKnown, from.starts(with: place.path) {
                add(Making(path: to, since: place.since))
            }
        }
    }

    /// The file with this header is at this path. Returns where its plan is.
    mutating func introduce(header: [UInt8], path: [StoredName], isNew: Bool, trust: RecoveryPlan.Trust) -> Int {
        let id = Array(header[8..<24])
        let number: Int
        if let known = index[id] {
            number = known
        } else {
            number = files.count
            index[id] = number
            files.append(RecoveryPlan(header: header, path: path, isNew: isNew, trust: trust))
        }
        for place in placesBefore(path).reversed() { add(place, to: number) }
        return number
    }

    private mutating func add(_ path: [StoredName], to number: Int, isLast: Bool = false) {
        files[number].add(path, isLast: isLast)
        for prefix in Self.prefixes(path) { filesAt[prefix, default: []].insert(number) }
    }

    private static func prefixes(_ path: [StoredName]) -> [[StoredName]] {
        path.isEmpty ? [] : (1...path.count).map { Array(path.prefix($0)) }
    }

    /// Where an object at a path may be if moves that the log knows of did not come to the disk; the path itself first. Where entries come to the disk in order, that
    /// is where it was before the last moves, one after the other; else some of them may be undone and others not.
    private func placesBefore(_ path: [StoredName]) -> [[StoredName]] {
        var places = [path]
        var next = 0
        var bounds = [moves.count]
        while next < places.count, places.count < Self.placeLimit {
            let place = places[next]
            // The last move first.
            let undone = Self.prefixes(place).flatMap { movesTo[$0] ?? [] }.filter { $0 < bounds[next] }.sorted(by: >)
            for move in undone {
                guard let before = Self.replacing(moves[move].to, by: moves[move].from, in: place),
                    !places.contains(before), places.count < Self.placeLimit
                else { continue }
                places.append(before)
                bounds.append(move)
            }
            next += 1
        }
        return places
    }

    private mutating func add(_ place: Making) {
        if !makingPaths.insert(place.path).inserted {
            // The earlier of two times says all.
            if making.contains(where: { $0.path == place.path && $0.since <= place.since }) { return }
        }
        making.append(place)
    }

    private static func replacing(
        _ prefix: [StoredName], by other: [StoredName], in path: [StoredName]
    ) -> [StoredName]? {
        path.starts(with: prefix) ? other + path.dropFirst(prefix.count) : nil
    }
}
