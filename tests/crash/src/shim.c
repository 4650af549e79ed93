/* Loaded before libc into a process under test: carries out each file call and writes it to a log, in
 * the one order in which the calls took effect. Calls go straight to the kernel, so nothing has to be
 * looked up. Environment: CRASH_ROOT, the folder that is watched; CRASH_LOG, the log.
 *
 * A record is: op (1 byte), a, b, c (u64, native), then c bytes. By op, a and b and those bytes are:
 *   C inode                 file created                             path
 *   W inode, offset         bytes written                            data
 *   T inode, length         length set                               nothing
 *   S inode                 file synced (fsync, fdatasync)           nothing
 *   G inode                 sync_file_range, which promises nothing  nothing
 *   F                       folder synced                            path
 *   R length of the first   renamed                                  both paths
 *   L length of the first   link made                                target and path
 *   U, D, M                 file removed, folder removed, made       path
 *   A                       words on stdout                          data
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char root[PATH_MAX];
static size_t root_length;

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("CRASH_ROOT"), *path = getenv("CRASH_LOG");
    if (!folder || !path || strlen(folder) >= sizeof root) return;
    strcpy(root, folder);
    root_length = strlen(root);
    log_fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void note(char op, uint64_t a, uint64_t b, uint64_t c, const void *first, size_t first_length,
                 const void *second, size_t second_length) {
    unsigned char head[25];
    head[0] = op;
    memcpy(head + 1, &a, 8);
    memcpy(head + 9, &b, 8);
    memcpy(head + 17, &c, 8);
    struct iovec parts[3] = {{head, sizeof head}, {(void *)first, first_length}, {(void *)second, second_length}};
    size_t all = sizeof head + first_length + second_length;
    if (syscall(SYS_writev, log_fd, parts, 3) != (long)all) abort();
}

static int under_root(const char *path) {
    return log_fd >= 0 && strncmp(path, root, root_length) == 0 &&
           (path[root_length] == '/' || path[root_length] == 0);
}

/* The absolute path of a name, or 0 where it is not ours. */
static int absolute(int folder, const char *name, char *out) {
    if (log_fd < 0) return 0;
    if (name[0] == '/') {
        if (strlen(name) >= PATH_MAX) return 0;
        strcpy(out, name);
    } else {
        char link[64], base[PATH_MAX];
        if (folder == AT_FDCWD) strcpy(link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        long length = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
        if (length <= 0) return 0;
        base[length] = 0;
        if ((size_t)snprintf(out, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) return 0;
    }
    return under_root(out);
}

/* Whether this is a file or folder under the root; answers its inode and kind. */
static int ours(int fd, struct stat *found, char *path) {
    if (log_fd < 0 || fstat(fd, found) != 0) return 0;
    if (!S_ISREG(found->st_mode) && !S_ISDIR(found->st_mode)) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return under_root(path);
}

static int opened(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    int watched = (flags & (O_CREAT | O_TRUNC)) && absolute(folder, name, path);
    if (!watched) return syscall(SYS_openat, folder, name, flags, mode);
    pthread_mutex_lock(&turn);
    struct stat before, after;
    int was = fstatat(AT_FDCWD, path, &before, AT_SYMLINK_NOFOLLOW) == 0;
    int fd = syscall(SYS_openat, folder, name, flags, mode);
    int kept = errno;
    if (fd >= 0 && fstat(fd, &after) == 0 && S_ISREG(after.st_mode)) {
        if (!was) note('C', after.st_ino, 0, strlen(path), path, strlen(path), 0, 0);
        else if ((flags & O_TRUNC) && before.st_size > 0) note('T', after.st_ino, 0, 0, 0, 0, 0, 0);
    }
    errno = kept;
    pthread_mutex_unlock(&turn);
    return fd;
}

#define MODE mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, int); va_end(rest); }
int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE return opened(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE return opened(folder, path, flags, mode); }

/* Begins a call on a file of ours; the turn is held where this answers 1. */
static int begin_on(int fd, struct stat *found) {
    char path[PATH_MAX];
    int kept = errno;
    int watched = ours(fd, found, path);
    errno = kept;
    if (watched) pthread_mutex_lock(&turn);
    return watched;
}
static void end(int kept) {
    errno = kept;
    pthread_mutex_unlock(&turn);
}

ssize_t write(int fd, const void *data, size_t length) {
    struct stat found;
    if (fd == STDOUT_FILENO && log_fd >= 0) {
        pthread_mutex_lock(&turn);
        note('A', 0, 0, length, data, length, 0, 0);
        pthread_mutex_unlock(&turn);
        return syscall(SYS_write, fd, data, length);
    }
    if (!begin_on(fd, &found)) return syscall(SYS_write, fd, data, length);
    ssize_t done = syscall(SYS_write, fd, data, length);
    int kept = errno;
    if (done > 0) {
        off_t end_at = syscall(SYS_lseek, fd, 0, SEEK_CUR);
        note('W', found.st_ino, end_at - done, done, data, done, 0, 0);
    }
    end(kept);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct stat found;
    if (fd == STDOUT_FILENO || !begin_on(fd, &found)) return syscall(SYS_writev, fd, parts, count);
    pthread_mutex_unlock(&turn);
    ssize_t all = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (done < 0) return all ? all : done;
        all += done;
        if ((size_t)done < parts[i].iov_len) break;
    }
    return all;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    struct stat found;
    if (!begin_on(fd, &found)) return syscall(SYS_pwrite64, fd, data, length, at);
    ssize_t done = syscall(SYS_pwrite64, fd, data, length, at);
    int kept = errno;
    if (done > 0) note('W', found.st_ino, at, done, data, done, 0, 0);
    end(kept);
    return done;
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) { return pwrite(fd, data, length, at); }

int ftruncate(int fd, off_t length) {
    struct stat found;
    if (!begin_on(fd, &found)) return syscall(SYS_ftruncate, fd, length);
    int done = syscall(SYS_ftruncate, fd, length);
    int kept = errno;
    if (done == 0) note('T', found.st_ino, length, 0, 0, 0, 0, 0);
    end(kept);
    return done;
}
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

static int synced(int fd, long call) {
    struct stat found;
    char path[PATH_MAX];
    if (!ours(fd, &found, path)) return syscall(call, fd);
    pthread_mutex_lock(&turn);
    /* The device is not asked: what counts is what the process asked for. */
    if (S_ISDIR(found.st_mode)) note('F', 0, 0, strlen(path), path, strlen(path), 0, 0);
    else note('S', found.st_ino, 0, 0, 0, 0, 0, 0);
    pthread_mutex_unlock(&turn);
    return 0;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

int sync_file_range(int fd, off64_t from, off64_t count, unsigned int flags) {
    struct stat found;
    (void)from, (void)count, (void)flags;
    if (!begin_on(fd, &found)) return 0;
    note('G', found.st_ino, 0, 0, 0, 0, 0, 0);
    end(errno);
    return 0;
}

static int one_path(char op, int folder, const char *name, long call, long flags) {
    char path[PATH_MAX];
    int watched = absolute(folder, name, path);
    if (watched) pthread_mutex_lock(&turn);
    int done = syscall(call, folder, name, flags);
    int kept = errno;
    if (watched) {
        if (done == 0) note(op, 0, 0, strlen(path), path, strlen(path), 0, 0);
        end(kept);
    }
    return done;
}
int unlink(const char *path) { return one_path('U', AT_FDCWD, path, SYS_unlinkat, 0); }
int rmdir(const char *path) { return one_path('D', AT_FDCWD, path, SYS_unlinkat, AT_REMOVEDIR); }
int unlinkat(int folder, const char *path, int flags) {
    return one_path(flags & AT_REMOVEDIR ? 'D' : 'U', folder, path, SYS_unlinkat, flags);
}
int mkdir(const char *path, mode_t mode) { return one_path('M', AT_FDCWD, path, SYS_mkdirat, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { return one_path('M', folder, path, SYS_mkdirat, mode); }

static int two_paths(char op, const char *first, int first_folder, const char *second, int second_folder) {
    char from[PATH_MAX], to[PATH_MAX];
    int watched = absolute(second_folder, second, to);
    if (op == 'L') strcpy(from, first);
    else watched &= absolute(first_folder, first, from);
    if (watched) pthread_mutex_lock(&turn);
    int done = op == 'L' ? syscall(SYS_symlinkat, first, second_folder, second)
                         : syscall(SYS_renameat2, first_folder, first, second_folder, second, 0);
    int kept = errno;
    if (watched) {
        if (done == 0)
            note(op, strlen(from), 0, strlen(from) + strlen(to), from, strlen(from), to, strlen(to));
        end(kept);
    }
    return done;
}
int rename(const char *from, const char *to) { return two_paths('R', from, AT_FDCWD, to, AT_FDCWD); }
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return two_paths('R', from, from_folder, to, to_folder);
}
int symlink(const char *target, const char *path) { return two_paths('L', target, AT_FDCWD, path, AT_FDCWD); }
