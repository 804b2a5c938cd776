import ArgumentParser
import Glibc

/// How much of the machine a command takes.
struct ThreadOptions: ParsableArguments {
    @Option(help: ArgumentHelp("How many threads read; by default, as many as processors.", valueName: "n"))
    var threads: Int?

    func validate() throws {
        if let threads, !(1...256).contains(threads) { throw ValidationError("--threads is 1 to 256") }
    }

    /// How many there are to be.
    var count: Int { threads ?? max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }
}
