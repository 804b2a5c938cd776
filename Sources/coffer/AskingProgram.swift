import CofferKeys
import Glibc

/// Who asks for a secret where there is no terminal: a desktop's program, or systemd.
enum AskingProgram {
    /// What was typed; nil where nobody is there to ask.
    ///
    /// `COFFER_ASKPASS`, or with a desktop `SSH_ASKPASS`, is a program that is given the prompt and prints the answer. In a unit of systemd's,
    /// systemd-ask-password reaches whoever answers its questions: the console at boot, or an agent. Elsewhere, as in cron's jobs, it would wait for nobody.
    static func ask(_ prompt: String) throws(CommandError) -> Passphrase? {
        let hasDesktop = variable("DISPLAY") != nil || variable("WAYLAND_DISPLAY") != nil
        if let program = variable("COFFER_ASKPASS") ?? (hasDesktop ? variable("SSH_ASKPASS") : nil) {
            return try PassphraseCommand.run(program, [program, prompt], named: quoted(program))
        }
        guard variable("INVOCATION_ID") != nil, access("/run/systemd/system", F_OK) == 0 else { return nil }
        let name = "systemd-ask-password"
        guard ["/usr/bin/", "/bin/"].contains(where: { access($0 + name, X_OK) == 0 }) else { return nil }
        return try PassphraseCommand.run(name, [name, "--no-tty", "--id=coffer", prompt], named: name)
    }

    private static func variable(_ name: String) -> String? {
        guard let value = getenv(name), value.pointee != 0 else { return nil }
        return String(cString: value)
    }
}
