/* Counts what a process changes below a folder, and at one of these changes kills it or lets the system refuse.

   Preloaded (LD_PRELOAD), it stands before the C library, which Python, Arrow, torch, SQLite and Rust all call. Until
   crash_arm() is called it does nothing. A process that is started with CRASH_ROOT set arms itself.

   Changes are: opening a file to write, writing, renaming, unlinking, making and removing folders, truncating, taking
   room, syncing. A kill in a write leaves half of its bytes. A full disk stays full; an error of the disk comes once.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { RECORD, KILL, FULL, BROKEN };

static char root[PATH_MAX];
static size_t root_length = 0;
static int mode = RECORD, report = -1;
static long target = 0;
static atomic_long counter = 0;

static int below(const char *path) { return strncmp(path, root, root_length) == 0 && path[root_length] == '/'; }

static void absolute(int folder, const char *path, char *out) {
    char base[PATH_MAX];
    if (path[0] == '/') { snprintf(out, PATH_MAX, "%s", path); return; }
    if (folder == AT_FDCWD) {
        if (syscall(SYS_getcwd, base, sizeof base) < 0) base[0] = 0;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t n = readlink(link, base, sizeof base - 1);
        base[n < 0 ? 0 : n] = 0;
    }
    if (strlen(base) + strlen(path) + 2 > PATH_MAX) { out[0] = 0; return; }
    strcpy(out, base); strcat(out, "/"); strcat(out, path);
}

static int of_descriptor(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    if (n < 0) return 0;
    out[n] = 0;
    return below(out);
}

/* 0: go on; 1: die, after half of the work where that can be halved; 2: refuse, errno is set. */
static int point(const char *what, const char *path, int takes_room, int may_break) {
    long number = atomic_fetch_add(&counter, 1) + 1;
    char line[PATH_MAX + 64];
    int n = snprintf(line, sizeof line, "%ld\t%s\t%s\n", number, what, path + root_length + 1);
    syscall(SYS_write, report, line, (size_t)n);
    if (mode == KILL && number == target) return 1;
    if (mode == FULL && number >= target && takes_room) { errno = ENOSPC; return 2; }
    if (mode == BROKEN && number == target && may_break) { errno = EIO; return 2; }
    return 0;
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause(); }

static int on_path(const char *what, int folder, const char *path, int takes_room) {
    char whole[PATH_MAX];
    if (!root_length || !path) return 0;
    absolute(folder, path, whole);
    if (!below(whole)) return 0;
    int outcome = point(what, whole, takes_room, 1);
    if (outcome == 1) die();
    return outcome;
}

static int on_write(int fd, const char *what) {
    char whole[PATH_MAX];
    if (!root_length || fd == report || !of_descriptor(fd, whole)) return 0;
    return point(what, whole, 1, 1);
}

void crash_arm(const char *folder, int how, long at, const char *file) {
    report = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    mode = how; target = at;
    atomic_store(&counter, 0);
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
}

__attribute__((constructor)) static void arm_by_environment(void) {
    const char *folder = getenv("CRASH_ROOT"), *rank = getenv("RANK"), *wanted = getenv("CRASH_RANK");
    if (folder && rank && wanted && strcmp(rank, wanted) == 0)
        crash_arm(folder, atoi(getenv("CRASH_MODE")), atol(getenv("CRASH_AT")), getenv("CRASH_REPORT"));
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, #name)

#define OPENS(name) \
int name(const char *path, int flags, ...) { \
    REAL(int, name, const char *, int, ...); mode_t permissions = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); permissions = va_arg(list, mode_t); va_end(list); } \
    if ((flags & O_ACCMODE) != O_RDONLY && on_path("open", AT_FDCWD, path, flags & O_CREAT)) return -1; \
    return real(path, flags, permissions); }
OPENS(open)
OPENS(open64)

#define OPENATS(name) \
int name(int folder, const char *path, int flags, ...) { \
    REAL(int, name, int, const char *, int, ...); mode_t permissions = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); permissions = va_arg(list, mode_t); va_end(list); } \
    if ((flags & O_ACCMODE) != O_RDONLY && on_path("open", folder, path, flags & O_CREAT)) return -1; \
    return real(folder, path, flags, permissions); }
OPENATS(openat)
OPENATS(openat64)

#define FOPENS(name) \
FILE *name(const char *path, const char *how) { \
    REAL(FILE *, name, const char *, const char *); \
    if (how[0] != 'r' && on_path("open", AT_FDCWD, path, 1)) return NULL; \
    return real(path, how); }
FOPENS(fopen)
FOPENS(fopen64)

ssize_t write(int fd, const void *bytes, size_t n) {
    REAL(ssize_t, write, int, const void *, size_t);
    int outcome = on_write(fd, "write");
    if (outcome == 1) { real(fd, bytes, n / 2); die(); }
    return outcome ? -1 : real(fd, bytes, n);
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    int outcome = on_write(fd, "write");
    if (outcome == 1) { real(fd, parts, n / 2); die(); }
    return outcome ? -1 : real(fd, parts, n);
}

#define PWRITES(name, offset_type) \
ssize_t name(int fd, const void *bytes, size_t n, offset_type offset) { \
    REAL(ssize_t, name, int, const void *, size_t, offset_type); \
    int outcome = on_write(fd, "write"); \
    if (outcome == 1) { real(fd, bytes, n / 2, offset); die(); } \
    return outcome ? -1 : real(fd, bytes, n, offset); }
PWRITES(pwrite, off_t)
PWRITES(pwrite64, off64_t)

size_t fwrite(const void *bytes, size_t size, size_t n, FILE *stream) {
    REAL(size_t, fwrite, const void *, size_t, size_t, FILE *);
    int outcome = root_length ? on_write(fileno(stream), "write") : 0;
    if (outcome == 1) { real(bytes, size, n / 2, stream); fflush(stream); die(); }
    return outcome ? 0 : real(bytes, size, n, stream);
}

#define SENDS(name, offset_type) \
ssize_t name(int out, int in, offset_type *offset, size_t n) { \
    REAL(ssize_t, name, int, int, offset_type *, size_t); \
    int outcome = on_write(out, "write"); \
    if (outcome == 1) { real(out, in, offset, n / 2); die(); } \
    return outcome ? -1 : real(out, in, offset, n); }
SENDS(sendfile, off_t)
SENDS(sendfile64, off64_t)

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t n, unsigned flags) {
    REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned);
    int outcome = on_write(out, "write");
    if (outcome == 1) { real(in, from, out, to, n / 2, flags); die(); }
    return outcome ? -1 : real(in, from, out, to, n, flags);
}

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    return on_path("rename", AT_FDCWD, to, 0) ? -1 : real(from, to);
}

int renameat(int of, const char *from, int at, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    return on_path("rename", at, to, 0) ? -1 : real(of, from, at, to);
}

int renameat2(int of, const char *from, int at, const char *to, unsigned flags) {
    REAL(int, renameat2, int, const char *, int, const char *, unsigned);
    return on_path("rename", at, to, 0) ? -1 : real(of, from, at, to, flags);
}

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    return on_path("unlink", AT_FDCWD, path, 0) ? -1 : real(path);
}

int unlinkat(int folder, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    return on_path("unlink", folder, path, 0) ? -1 : real(folder, path, flags);
}

int rmdir(const char *path) {
    REAL(int, rmdir, const char *);
    return on_path("rmdir", AT_FDCWD, path, 0) ? -1 : real(path);
}

int mkdir(const char *path, mode_t permissions) {
    REAL(int, mkdir, const char *, mode_t);
    return on_path("mkdir", AT_FDCWD, path, 1) ? -1 : real(path, permissions);
}

int mkdirat(int folder, const char *path, mode_t permissions) {
    REAL(int, mkdirat, int, const char *, mode_t);
    return on_path("mkdir", folder, path, 1) ? -1 : real(folder, path, permissions);
}

static int on_descriptor(const char *what, int fd, int takes_room) {
    char whole[PATH_MAX];
    if (!root_length || !of_descriptor(fd, whole)) return 0;
    int outcome = point(what, whole, takes_room, 1);
    if (outcome == 1) die();
    return outcome;
}

#define TRUNCATES(name, offset_type) \
int name(int fd, offset_type length) { \
    REAL(int, name, int, offset_type); \
    return on_descriptor("truncate", fd, 0) ? -1 : real(fd, length); }
TRUNCATES(ftruncate, off_t)
TRUNCATES(ftruncate64, off64_t)

#define SYNCS(name) \
int name(int fd) { \
    REAL(int, name, int); \
    return on_descriptor("sync", fd, 0) ? -1 : real(fd); }
SYNCS(fsync)
SYNCS(fdatasync)

#define TAKES(name, offset_type) \
int name(int fd, offset_type start, offset_type length) { \
    REAL(int, name, int, offset_type, offset_type); \
    return on_descriptor("write", fd, 1) ? errno : real(fd, start, length); }
TAKES(posix_fallocate, off_t)
TAKES(posix_fallocate64, off64_t)
