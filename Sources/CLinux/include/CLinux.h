// Linux calls and numbers that Swift's Glibc module does not offer, each under its own name with a prefix. No logic.
#ifndef COFFER_CLINUX_H
#define COFFER_CLINUX_H

#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/types.h>

// The kernel's numbers; linux.c checks each against the system's headers.
#define COFFER_FALLOC_KEEP_SIZE 0x01
#define COFFER_FALLOC_PUNCH_HOLE 0x02
#define COFFER_FALLOC_ZERO_RANGE 0x10
#define COFFER_AT_EMPTY_PATH 0x1000
#define COFFER_O_PATH 010000000
#define COFFER_O_NOATIME 01000000
#define COFFER_O_DIRECT 040000
#define COFFER_O_TMPFILE 020200000
#define COFFER_SEEK_DATA 3
#define COFFER_SEEK_HOLE 4
#define COFFER_UTIME_NOW 1073741823
#define COFFER_UTIME_OMIT 1073741822
#define COFFER_MNT_DETACH 2
#define COFFER_RENAME_NOREPLACE 1
#define COFFER_RENAME_EXCHANGE 2
#define COFFER_RUSAGE_THREAD 1

// Layout of what getdents64(2) fills.
struct coffer_dirent64 {
    unsigned long long d_ino;
    long long d_off;
    unsigned short d_reclen;
    unsigned char d_type;
    char d_name[1];
};

long coffer_getdents64(int fd, void *buffer, size_t count);
int coffer_renameat2(int from, const char *old_name, int to, const char *new_name, unsigned flags);
int coffer_openat(int fd, const char *path, int flags, mode_t mode);
int coffer_fcntl_int(int fd, int command, int value);
int coffer_fallocate(int fd, int mode, off_t offset, off_t length);
int coffer_dup3(int from, int to, int flags);
int coffer_syncfs(int fd);
// What Coffer's mounts understand of ioctl(2), on their root: bring everything that was written to the vault.
#define COFFER_SETTLE 0x4353
int coffer_settle(int fd);
int coffer_umount2(const char *path, int flags);
// Gives the calling thread its own umask and working directory.
int coffer_unshare_fs(void);
// How long, in nanoseconds, the calling thread may be made to wait for the processor so that it can then have it for as long; 0 for what is usual. 0, or -1 where the
// system knows no such thing, or the thread is scheduled in another way.
int coffer_set_slice(unsigned long long nanoseconds);
// The calling thread gets the time that no other wants (SCHED_IDLE), which needs no privilege. 0, or -1 with errno.
int coffer_set_idle(void);
int coffer_thread_id(void);
// A thread, by its thread id, runs on this processor alone. 0, or -1 with errno.
int coffer_run_on(int thread, int processor);
// On how many processors the calling thread may run; -1 where there are more than this can count.
int coffer_processor_count(void);
// Whether this is a virtual machine, as far as the processor says so (x86-64 only).
int coffer_is_guest(void);
// fork(2), which Swift does not offer; only for a process that has one thread.
pid_t coffer_fork(void);
void coffer_syslog(int priority, const char *message);
// Raises the soft limit of open descriptors to the hard one and returns it.
int coffer_raise_nofile_limit(void);
// Whatever goes wrong from here on, nothing of this process's memory is written anywhere. 0, or -1 where that cannot be.
int coffer_forbid_crash_reports(void);
// Opens what a descriptor names again, with other flags.
int coffer_reopen(int fd, int flags);
// Calls on what a descriptor names, by /proc/self/fd, so that O_PATH descriptors will do.
int coffer_chmod(int fd, mode_t mode);
ssize_t coffer_getxattr(int fd, const char *name, void *value, size_t size);
int coffer_setxattr(int fd, const char *name, const void *value, size_t size, int flags);
ssize_t coffer_listxattr(int fd, char *list, size_t size);
int coffer_removexattr(int fd, const char *name);
unsigned coffer_major(dev_t device);
unsigned coffer_minor(dev_t device);
// When what a name in a directory stands for was made, in seconds and nanoseconds since 1970; where the file system does not say, when it was changed last,
// and 1. Without a name, what the descriptor stands for.
int coffer_birth_time(int directory, const char *name, long long *seconds, long long *nanoseconds);
// The magic number of the file system that a descriptor is on; -1 where it cannot be told.
long coffer_file_system_type(int fd);
int coffer_wifexited(int status);
int coffer_wexitstatus(int status);
// Tells the processor that the program is waiting in a loop.
static inline void coffer_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
