import CofferKeys
import Glibc
import Synchronization

/// The person at the terminal, `/dev/tty`, whatever standard input and output are.
enum Terminal {
    // The signal that came in while the terminal did not echo, or 0; set by the signal handler only.
    private static let pendingSignal = Atomic<Int32>(0)
    private static let signals = [SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP]

    /// One line typed without being shown; where there is no terminal, whoever else can be asked.
    static func askSecret(_ prompt: String) throws(CommandError) -> Passphrase {
        let descriptor = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if let answer = try AskingProgram.ask(prompt) { return answer }
            throw CommandError(
                .noPassphrase,
                "no terminal to ask for the passphrase on; use --passphrase-file or --passphrase-command, for a new one --new-passphrase-file, or set COFFER_ASKPASS"
            )
        }
        defer { close(descriptor) }
        while true {
            pendingSignal.store(0, ordering: .relaxed)
            let line = try askOnce(descriptor, prompt)
            let signal = pendingSignal.load(ordering: .relaxed)
            if signal == 0, let line { return line }
            // The echo is back, so the signal may now do what it does: end the program, or stop it until it is
            // continued.
            raise(signal)
        }
    }

    /// One line typed as people see it; the caller wipes it.
    static func ask(_ prompt: String) throws(CommandError) -> [UInt8] {
        let descriptor = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw CommandError(.noPassphrase, "no terminal to ask on; use an option that names a file")
        }
        defer { close(descriptor) }
        show(prompt, on: descriptor)
        let line = try SecretLine.read(descriptor)
        return line.map { $0.withBytes { Array($0) } } ?? []
    }

    private static func askOnce(_ descriptor: Int32, _ prompt: String) throws(CommandError) -> Passphrase? {
        var before = termios()
        guard tcgetattr(descriptor, &before) == 0 else {
            throw CommandError(.noPassphrase, "the terminal cannot be asked for a passphrase")
        }
        let handlers = catchSignals()
        defer { restore(handlers) }
        var silent = before
        silent.c_lflag &= ~tcflag_t(ECHO)
        guard tcsetattr(descriptor, TCSAFLUSH, &silent) == 0 else {
            throw CommandError(.noPassphrase, "the terminal's echo cannot be switched off")
        }
        defer { tcsetattr(descriptor, TCSAFLUSH, &before) }
        show(prompt, on: descriptor)
        defer { show("\n", on: descriptor) }
        return try SecretLine.read(descriptor) { pendingSignal.load(ordering: .relaxed) != 0 }
    }

    private static func show(_ text: String, on descriptor: Int32) {
        let bytes = Array(text.utf8)
        // A prompt that is not seen is no reason to stop.
        _ = write(descriptor, bytes, bytes.count)
    }

    private static func catchSignals() -> [sigaction] {
        signals.map { signal in
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { number in Terminal.pendingSignal.store(number, ordering: .relaxed)
            }
            var before = sigaction()
            // Without SA_RESTART, so that the read is interrupted.
            sigaction(signal, &action, &before)
            return before
        }
    }

    private static func restore(_ handlers: [sigaction]) {
        for (signal, handler) in zip(signals, handlers) {
            var handler = handler
            sigaction(signal, &handler, nil)
        }
    }
}
