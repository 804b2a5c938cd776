import Glibc

// Synchronous on purpose: a mount leaves the terminal by forking, which a process with more than one thread cannot do safely.
exit(Coffer.run(arguments: CommandLine.arguments).rawValue)
