import Glibc

// Synchronous on purpose: a mount leaves the terminal by forking, which a process with more than one thread cannot do
// safely.
let words = MountHelper.translate(CommandLine.arguments, commands: Coffer.commandNames)
exit(Coffer.run(arguments: words).rawValue)
