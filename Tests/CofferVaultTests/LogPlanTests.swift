import CofferFormat
import Testing

@testable import CofferVault

/// Where recovery looks for a file after renames that may or may not have come to the disk.
struct LogPlanTests {
    private let header = [UInt8](0..<32)

    private func path(_ text: String) -> [StoredName] { text.split(separator: "/").map { StoredName(String($0)) } }

    private func introduce(_ text: String, in plan: inout LogPlan) -> Int {
        plan.introduce(header: header, path: path(text), isNew: false, trust: .own)
    }

    private func move(_ from: String, _ to: String, in plan: inout LogPlan) {
        let isTaken = plan.takePlace(.moved(from: path(from), to: path(to)))
        #expect(isTaken)
    }

    @Test func aFileThatMovesIsLookedForWhereItGoesAndWhereItWas() {
        var plan = LogPlan()
        let file = introduce("a/f", in: &plan)
        move("a/f", "b/g", in: &plan)
        move("b", "c/d", in: &plan)
        #expect(plan.files[file].paths == [path("c/d/g"), path("b/g"), path("a/f")])
        // Another that comes to a place where it was is none of its concern.
        move("x", "a/f", in: &plan)
        move("a/f", "elsewhere", in: &plan)
        #expect(plan.files[file].paths.first == path("c/d/g"))
        // The directory that it left moves, and that may be on the disk while its own move is not.
        move("a", "z", in: &plan)
        #expect(plan.files[file].paths.first == path("c/d/g"))
        #expect(plan.files[file].paths.contains(path("z/f")))
    }

    @Test func aFileThatTheLogHearsOfAfterItMoved() {
        var plan = LogPlan()
        move("a/f", "b/g", in: &plan)
        move("b", "c", in: &plan)
        let file = introduce("c/g", in: &plan)
        let paths = plan.files[file].paths
        #expect(paths.first == path("c/g"))
        #expect(paths.contains(path("b/g")) && paths.contains(path("a/f")))
    }

    /// However often a name was used, the file is looked for first where it was seen last.
    @Test func manyMoves() {
        var plan = LogPlan()
        for number in 0..<500 { move("tmp\(number)", "d/f", in: &plan) }
        let file = introduce("d/f", in: &plan)
        #expect(plan.files[file].paths.first == path("d/f"))
        #expect(plan.files[file].paths.contains(path("tmp499")))
        for number in 0..<500 {
            move(number == 0 ? "d" : "d\(number - 1)", "d\(number)", in: &plan)
            #expect(plan.files[file].paths.first == path("d\(number)/f"))
        }
        #expect(plan.files[file].paths.count <= 64)
        move("d499/f", "e", in: &plan)
        #expect(plan.files[file].paths.first == path("e"))
        #expect(plan.files[file].paths[1] == path("d499/f"))
    }

    @Test func placesOfNewFilesMoveAlong() {
        var plan = LogPlan()
        let isTaken = plan.takePlace(.making(since: 5, path: path("a/b")))
        #expect(isTaken)
        move("a", "c", in: &plan)
        move("c/b/new", "d/new", in: &plan)
        let places = plan.making.map(\.path)
        for expected in ["a/b", "c/b", "d/new"] { #expect(places.contains(path(expected))) }
        #expect(plan.making.allSatisfy { $0.since == 5 })
    }
}
