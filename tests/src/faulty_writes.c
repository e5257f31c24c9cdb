/* Preloaded into a process under test: the n-th write to a regular file fails, or writes only half of what it was given
 * and says so, as a kernel may. Writes to anything else (sockets, pipes, the event counters that wake a runtime) pass.
 *
 * FAULTY_WRITES=<what>:<n>[+] with <what> one of short, EIO, ENOSPC, EINTR or count; `+` means from the n-th on (for EINTR:
 * every other one from there on, as who is interrupted tries again). FAULTY_WRITES_MARK names a file that gets a byte for
 * every fault, or, counting, for every write.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long calls;

static void mark(void)
{
    const char *path = getenv("FAULTY_WRITES_MARK");
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (file >= 0) {
        syscall(SYS_write, file, "x", (size_t)1);
        close(file);
    }
}

/* How many of `size` bytes are to be written; -1: none, with errno set. */
static ssize_t verdict(int file, size_t size)
{
    struct stat found;
    const char *plan = getenv("FAULTY_WRITES");
    int before = errno;
    if (!plan || fstat(file, &found) != 0 || !S_ISREG(found.st_mode)) {
        errno = before;
        return (ssize_t)size;
    }
    const char *colon = strchr(plan, ':');
    long at = colon ? strtol(colon + 1, NULL, 10) : 0;
    int for_ever = plan[strlen(plan) - 1] == '+';
    long call = atomic_fetch_add(&calls, 1) + 1;
    int interrupts = !strncmp(plan, "EINTR", 5);
    int now = call == at || (for_ever && call > at && (!interrupts || (call - at) % 2 == 0));
    errno = before;
    if (!strncmp(plan, "count", 5)) {
        mark();
        return (ssize_t)size;
    }
    if (!now)
        return (ssize_t)size;
    mark();
    if (!strncmp(plan, "short", 5)) {
        errno = before;
        return size > 1 ? (ssize_t)(size / 2) : (ssize_t)size;
    }
    errno = interrupts ? EINTR : !strncmp(plan, "ENOSPC", 6) ? ENOSPC : EIO;
    return -1;
}

ssize_t write(int file, const void *bytes, size_t size)
{
    ssize_t allowed = verdict(file, size);
    return allowed < 0 ? -1 : syscall(SYS_write, file, bytes, (size_t)allowed);
}

ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t offset)
{
    ssize_t allowed = verdict(file, size);
    return allowed < 0 ? -1 : syscall(SYS_pwrite64, file, bytes, (size_t)allowed, offset);
}

ssize_t pwrite(int file, const void *bytes, size_t size, off_t offset)
{
    return pwrite64(file, bytes, size, offset);
}
