import CofferDisk
import Randomness
import Testing

@testable import CofferVault

/// Directories, links and long names through power cuts at any call: nothing becomes unreadable, what is there is what was there after some step since the
/// last sync, and no two directories make their entries under one id.
struct DirectoryCutTests {
    /// `COFFER_TREE_CUTS` says how many workloads, `COFFER_FIRST_SEED` where their seeds begin.
    private static let seeds: Range<UInt64> = {
        let first = UInt64(environmentNumber("COFFER_FIRST_SEED") ?? 0)
        return first..<first + UInt64(environmentNumber("COFFER_TREE_CUTS") ?? 6)
    }()

    @Test(arguments: SimulatedTree.Journal.allCases) func treesStayReadable(journal: SimulatedTree.Journal) throws {
        try run(journal, seeds: Self.seeds, cuts: 30 * Self.seeds.count) { workload, _ in try workload.run(steps: 75) }
    }

    /// As before, but that what a power cut left is gone on with, many times: what lies about of changes that were cut short must not harm later ones.
    @Test(arguments: SimulatedTree.Journal.allCases) func treesAreGoneOnWith(journal: SimulatedTree.Journal) throws {
        var restarts = 0
        try run(journal, seeds: Self.seeds, cuts: 30 * Self.seeds.count) { workload, _ in
            workload.restarts = true
            try workload.run(steps: 75)
            restarts += workload.restarted
        }
        #expect(restarts > 3 * Self.seeds.count)
    }

    /// And calls that are refused, with power cuts before and after.
    @Test(arguments: SimulatedTree.Journal.allCases) func refusedCallsLeaveTrees(journal: SimulatedTree.Journal) throws
    {
        var refused = 0
        try run(journal, seeds: Self.seeds, cuts: 30 * Self.seeds.count) { workload, seed in
            workload.restarts = seed % 2 == 0
            workload.refuses = true
            try workload.run(steps: 75)
            refused += workload.refused
        }
        #expect(refused > 3 * Self.seeds.count)
    }

    /// Runs something for many seeds, until one fails; at least so many power cuts must have been tried.
    func run(
        _ journal: SimulatedTree.Journal, seeds: Range<UInt64>, cuts least: Int,
        _ body: (TreeCut, UInt64) throws -> Void
    ) throws {
        var cuts = 0
        for seed in seeds {
            let workload = try TreeCut(journal, seed: seed)
            do {
                try body(workload, seed)
            } catch {
                Issue.record("\(journal), seed \(seed), \(workload.doing): \(error)")
                return
            }
            cuts += workload.cuts
            if workload.failure != nil { return }
        }
        print("\(cuts) power cuts of directories")
        #expect(cuts > least)
    }
}
