/// Blocks of one open file that are known to be holes, and the block that vouches for each run of them.
///
/// A cache with one duty: what it says was verified in this session or written by it. It may forget; what it forgets is looked up on
/// disk again.
struct HoleMap {
    /// Zero blocks `start ..< end`; block `end` is stored and its gap reaches down to `floor`.
    struct Run: Equatable {
        var start: Int
        var end: Int
        var floor: Int
    }

    /// Above so many runs the map forgets what it may: it must not grow with the file.
    private static let limit = 4096
    private var ceiling = Self.limit

    /// Ascending, disjoint.
    private(set) var runs: [Run] = []

    /// Index of the first run that ends after `block`.
    private func index(after block: Int) -> Int {
        var low = 0
        var high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].end > block { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// The run that holds `block`.
    func run(holding block: Int) -> Run? {
        let index = self.index(after: block)
        return index < runs.count && runs[index].start <= block ? runs[index] : nil
    }

    /// The first run that ends after `block`.
    func run(after block: Int) -> Run? {
        let index = self.index(after: block)
        return index < runs.count ? runs[index] : nil
    }

    /// The run that block `end` vouches for.
    func run(endingAt end: Int) -> Run? {
        let index = self.index(after: end - 1)
        return index < runs.count && runs[index].end == end ? runs[index] : nil
    }

    /// Adds or widens a run; what it overlaps must agree on the end, and is taken in. Runs that end at one of `vouchers` are not forgotten: their
    /// blocks have wider gaps on disk than they should, so the map alone knows the right one.
    mutating func insert(_ run: Run, keeping vouchers: Set<Int> = []) {
        if runs.count >= ceiling {
            runs.removeAll { !vouchers.contains($0.end) }
            ceiling = max(Self.limit, 2 * runs.count)
        }
        var merged = run
        let first = index(after: run.start)
        var last = first
        while last < runs.count, runs[last].start < run.end {
            merged.start = min(merged.start, runs[last].start)
            last += 1
        }
        runs.replaceSubrange(first..<last, with: CollectionOfOne(merged))
    }

    /// Takes blocks `first ... last` out, because they are stored now. Returns the vouchers whose gap reaches over one of them and
    /// is too wide now.
    mutating func fill(_ first: Int, _ last: Int) -> [Int] {
        guard !runs.isEmpty else { return [] }
        var stale: [Int] = []
        var kept: [Run] = []
        let begin = index(after: first)
        var end = begin
        while end < runs.count, runs[end].floor <= last {
            let run = runs[end]
            end += 1
            if run.start < first { kept.append(Run(start: run.start, end: first, floor: run.floor)) }
            if run.end > last {
                stale.append(run.end)
                if last + 1 < run.end {
                    kept.append(Run(start: max(run.start, last + 1), end: run.end, floor: max(run.floor, last + 1)))
                }
            }
        }
        runs.replaceSubrange(begin..<end, with: kept)
        return stale
    }

    /// Forgets everything that block `count` and later ones are part of, vouchers included.
    mutating func cut(to count: Int) {
        runs.removeAll { $0.end >= count }
    }

    /// Forgets the runs whose voucher is in `vouchers`.
    mutating func remove(endingIn vouchers: ClosedRange<Int>) {
        runs.removeAll { vouchers.contains($0.end) }
    }
}
