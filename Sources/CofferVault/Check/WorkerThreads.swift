import Glibc

/// Threads of which each has something of its own to do.
package final class WorkerThreads: @unchecked Sendable {
    private final class Start {
        let body: () -> Void

        init(_ body: @escaping () -> Void) { self.body = body }
    }

    private var threads: [pthread_t] = []

    /// Starts one for each body, which is nobody else's; nil where not one can be started.
    package init?(_ bodies: [() -> Void]) {
        for body in bodies {
            let start = Unmanaged.passRetained(Start(body))
            var thread = pthread_t()
            let status = pthread_create(
                &thread, nil,
                { argument in
                    if let argument { Unmanaged<Start>.fromOpaque(argument).takeRetainedValue().body() }
                    return nil
                }, start.toOpaque())
            if status == 0 { threads.append(thread) } else { start.release() }
        }
        if threads.isEmpty { return nil }
    }

    /// Waits for the end of all.
    package func join() {
        for thread in threads { pthread_join(thread, nil) }
        threads = []
    }
}
