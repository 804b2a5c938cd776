#define _GNU_SOURCE 1

#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <syslog.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

_Static_assert(COFFER_RUSAGE_THREAD == RUSAGE_THREAD, "RUSAGE_THREAD");
_Static_assert(COFFER_FALLOC_KEEP_SIZE == FALLOC_FL_KEEP_SIZE, "FALLOC_FL_KEEP_SIZE");
_Static_assert(COFFER_FALLOC_PUNCH_HOLE == FALLOC_FL_PUNCH_HOLE, "FALLOC_FL_PUNCH_HOLE");
_Static_assert(COFFER_FALLOC_ZERO_RANGE == FALLOC_FL_ZERO_RANGE, "FALLOC_FL_ZERO_RANGE");
_Static_assert(COFFER_AT_EMPTY_PATH == AT_EMPTY_PATH, "AT_EMPTY_PATH");
_Static_assert(COFFER_O_PATH == O_PATH, "O_PATH");
_Static_assert(COFFER_O_NOATIME == O_NOATIME, "O_NOATIME");
_Static_assert(COFFER_O_DIRECT == O_DIRECT, "O_DIRECT");
_Static_assert(COFFER_O_TMPFILE == O_TMPFILE, "O_TMPFILE");
_Static_assert(COFFER_SEEK_DATA == SEEK_DATA, "SEEK_DATA");
_Static_assert(COFFER_SEEK_HOLE == SEEK_HOLE, "SEEK_HOLE");
_Static_assert(COFFER_UTIME_NOW == UTIME_NOW, "UTIME_NOW");
_Static_assert(COFFER_UTIME_OMIT == UTIME_OMIT, "UTIME_OMIT");
_Static_assert(COFFER_MNT_DETACH == MNT_DETACH, "MNT_DETACH");
_Static_assert(COFFER_RENAME_NOREPLACE == RENAME_NOREPLACE, "RENAME_NOREPLACE");
_Static_assert(COFFER_RENAME_EXCHANGE == RENAME_EXCHANGE, "RENAME_EXCHANGE");
_Static_assert(offsetof(struct coffer_dirent64, d_name) == 19, "linux_dirent64 names begin at byte 19");
_Static_assert(sizeof(off_t) == 8, "64-bit offsets");

long coffer_getdents64(int fd, void *buffer, size_t count) { return syscall(SYS_getdents64, fd, buffer, count); }

int coffer_renameat2(int from, const char *old_name, int to, const char *new_name, unsigned flags) {
    return (int)syscall(SYS_renameat2, from, old_name, to, new_name, flags);
}

int coffer_openat(int fd, const char *path, int flags, mode_t mode) { return openat(fd, path, flags, mode); }

int coffer_fcntl_int(int fd, int command, int value) { return fcntl(fd, command, value); }

int coffer_fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate(fd, mode, offset, length); }

int coffer_dup3(int from, int to, int flags) { return dup3(from, to, flags); }

int coffer_syncfs(int fd) { return syncfs(fd); }

_Static_assert(COFFER_SETTLE == _IO('C', 'S'), "an ioctl without an argument");
int coffer_settle(int fd) { return ioctl(fd, COFFER_SETTLE); }

int coffer_birth_time(int directory, const char *name, long long *seconds, long long *nanoseconds) {
    struct statx status;
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (name[0] == 0 ? AT_EMPTY_PATH : 0);
    if (statx(directory, name, flags, STATX_BTIME | STATX_CTIME, &status) != 0) return -1;
    int known = (status.stx_mask & STATX_BTIME) != 0;
    struct statx_timestamp time = known ? status.stx_btime : status.stx_ctime;
    *seconds = time.tv_sec;
    *nanoseconds = time.tv_nsec;
    return known ? 0 : 1;
}

long coffer_file_system_type(int fd) {
    struct statfs status;
    return fstatfs(fd, &status) == 0 ? (long)status.f_type : -1;
}

int coffer_umount2(const char *path, int flags) { return umount2(path, flags); }

// glibc has no name for these until 2.41.
struct coffer_sched_attr {
    unsigned size, policy;
    unsigned long long flags;
    int nice;
    unsigned priority;
    unsigned long long runtime, deadline, period;
};

int coffer_set_slice(unsigned long long nanoseconds) {
    struct coffer_sched_attr attributes = {0};
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return -1;
    if (attributes.policy != SCHED_OTHER) return -1;
    attributes.flags = 0;
    attributes.runtime = nanoseconds;
    return syscall(SYS_sched_setattr, 0, &attributes, 0) == 0 ? 0 : -1;
}

int coffer_set_idle(void) {
    struct sched_param none = {0};
    return sched_setscheduler(0, SCHED_IDLE, &none);
}

int coffer_thread_id(void) { return gettid(); }

int coffer_run_on(int thread, int processor) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    return sched_setaffinity(thread, sizeof one, &one);
}

int coffer_processor_count(void) {
    cpu_set_t all;
    return sched_getaffinity(0, sizeof all, &all) == 0 ? CPU_COUNT(&all) : -1;
}

int coffer_is_guest(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c >> 31;
#else
    return 0;
#endif
}

int coffer_unshare_fs(void) { return unshare(CLONE_FS); }

pid_t coffer_fork(void) { return fork(); }

void coffer_syslog(int priority, const char *message) { syslog(priority, "%s", message); }

int coffer_raise_nofile_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -1;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    return limit.rlim_cur > 1000000 ? 1000000 : (int)limit.rlim_cur;
}

int coffer_forbid_crash_reports(void) {
    // The Swift runtime's own handlers start a program that prints registers and what they point at, and wait for it with all threads stopped, so that a mount
    // would hang.
    const int signals[] = {SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV};
    for (unsigned index = 0; index < sizeof signals / sizeof signals[0]; index++) signal(signals[index], SIG_DFL);
    // The limit does not count where core files go to a program, and the attribute keeps other programs of this user out as well.
    struct rlimit limit = {0, 0};
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) | setrlimit(RLIMIT_CORE, &limit);
}

#define DESCRIPTOR_PATH(fd)                                                                                            \
    char path[32];                                                                                                     \
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd)

int coffer_reopen(int fd, int flags) {
    DESCRIPTOR_PATH(fd);
    return open(path, flags);
}

int coffer_chmod(int fd, mode_t mode) {
    DESCRIPTOR_PATH(fd);
    return chmod(path, mode);
}

// Only an O_PATH descriptor needs a path, which takes several times as long to walk.
ssize_t coffer_getxattr(int fd, const char *name, void *value, size_t size) {
    ssize_t count = fgetxattr(fd, name, value, size);
    if (count >= 0 || errno != EBADF) return count;
    DESCRIPTOR_PATH(fd);
    return getxattr(path, name, value, size);
}

int coffer_setxattr(int fd, const char *name, const void *value, size_t size, int flags) {
    DESCRIPTOR_PATH(fd);
    return setxattr(path, name, value, size, flags);
}

ssize_t coffer_listxattr(int fd, char *list, size_t size) {
    ssize_t count = flistxattr(fd, list, size);
    if (count >= 0 || errno != EBADF) return count;
    DESCRIPTOR_PATH(fd);
    return listxattr(path, list, size);
}

int coffer_removexattr(int fd, const char *name) {
    DESCRIPTOR_PATH(fd);
    return removexattr(path, name);
}

unsigned coffer_major(dev_t device) { return major(device); }

unsigned coffer_minor(dev_t device) { return minor(device); }

int coffer_wifexited(int status) { return WIFEXITED(status); }

int coffer_wexitstatus(int status) { return WEXITSTATUS(status); }
