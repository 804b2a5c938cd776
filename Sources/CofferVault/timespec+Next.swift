import Glibc

extension timespec {
    /// A nanosecond later.
    var next: timespec {
        tv_nsec < 999_999_999
            ? timespec(tv_sec: tv_sec, tv_nsec: tv_nsec + 1) : timespec(tv_sec: tv_sec + 1, tv_nsec: 0)
    }
}
