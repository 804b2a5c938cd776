import Glibc

/// A thread that runs one closure and can be waited for.
final class ServiceThread {
    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// The thread's id.
    let id: pthread_t

    /// Starts a thread.
    init(_ body: @escaping @Sendable () -> Void) throws(MountError) {
        var id = pthread_t()
        let boxed = Unmanaged.passRetained(Body(body))
        let status = pthread_create(
            &id, nil,
            { argument in
                if let argument { Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, boxed.toOpaque())
        guard status == 0 else {
            boxed.release()
            throw .resources
        }
        self.id = id
    }

    /// Waits for its end.
    func join() {
        pthread_join(id, nil)
    }
}
