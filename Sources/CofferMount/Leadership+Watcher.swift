import CLinux
import Glibc
import Synchronization

/// The thread that takes the lead where the leader waits for something.
///
/// It sleeps in epoll, where the requests' descriptor is only while it is armed, and then for one: a request that the leader can read itself wakes nobody.
extension Leadership {
    /// Ticks without a request after which the watcher sleeps without them.
    private static let quietTicks = 50

    func watch(_ thread: Int) {
        var last = word.load(ordering: .acquiring)
        var quiet = 0
        while !isEnded.load(ordering: .acquiring) {
            var timeout = tick
            if quiet >= Self.quietTicks {
                watcherSleeps.store(true, ordering: .sequentiallyConsistent)
                // What began before it could know is waited for once more.
                if word.load(ordering: .sequentiallyConsistent) == last, last & 1 == 0 { timeout = -1 }
            }
            var event = epoll_event()
            let count = epoll_wait(poll, &event, 1, timeout)
            watcherSleeps.store(false, ordering: .relaxed)
            let present = word.load(ordering: .acquiring)
            if count == 1, event.data.fd == descriptor {
                if present & 1 == 1, takeLead(from: present, thread) { return onReturn() }
            } else if count == 1 {
                var number: UInt64 = 0
                _ = read(alarm, &number, 8)
                quiet = 0
                onReturn()
            } else if count == 0, present == last, present & 1 == 1 {
                arm()
            }
            quiet = present == last ? quiet + 1 : 0
            last = present
        }
    }

    private func takeLead(from present: UInt64, _ thread: Int) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        let mine = Self.word(leader: thread, after: present)
        guard word.compareExchange(expected: present, desired: mine, ordering: .acquiringAndReleasing).exchanged
        else { return false }
        roles[thread] = .leader
        hasWatcher = call(.watcher)
        return true
    }

    func arm() {
        var event = epoll_event(
            events: EPOLLIN.rawValue | EPOLLONESHOT.rawValue, data: epoll_data_t(fd: descriptor))
        // It is there still where it was armed, and told of a request.
        while epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event) != 0, errno == EEXIST {
            if epoll_ctl(poll, EPOLL_CTL_MOD, descriptor, &event) == 0 || errno != ENOENT { return }
        }
    }

    /// Taken out, and not just told to wait for nothing: the kernel would go on telling of errors, and since FUSE does not say what it wakes for, each request
    /// would wake the watcher.
    func disarm() {
        epoll_ctl(poll, EPOLL_CTL_DEL, descriptor, nil)
    }

    /// Wakes the watcher.
    func ring() {
        var one: UInt64 = 1
        _ = write(alarm, &one, 8)
    }
}
