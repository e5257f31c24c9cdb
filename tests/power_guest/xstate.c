/* Lets user-mode Linux 6.1 run on processors with large vector state (AMX, some AVX-512).
 *
 * It saves and restores its processes' registers through ptrace(PTRACE_GETREGSET/SETREGSET, NT_X86_XSTATE) with a
 * buffer of fixed size. Where the processor's state is larger, setting it fails with EFAULT (the kernel takes only the
 * whole set) and the guest panics in put_fp_registers. So this library, loaded before libc, repeats such a call with
 * the whole current set, in which the guest's bytes stand in place of the first ones. Everything else passes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PEEK_FIRST = 1, PEEK_LAST = 3, GET_REGISTERS = 0x4204, SET_REGISTERS = 0x4205, X86_XSTATE = 0x202 };

static long call(long request, long pid, void *address, void *data) {
    return syscall(SYS_ptrace, request, pid, address, data);
}

static long set_whole(long pid, const struct iovec *part) {
    static char bytes[64 * 1024];
    struct iovec whole = { bytes, sizeof bytes };
    if (call(GET_REGISTERS, pid, (void *) X86_XSTATE, &whole) != 0)
        return -1;
    if (part->iov_len >= whole.iov_len) {
        errno = EFAULT;
        return -1;
    }
    memcpy(bytes, part->iov_base, part->iov_len);
    return call(SET_REGISTERS, pid, (void *) X86_XSTATE, &whole);
}

long ptrace(int request, ...) {
    va_list arguments;
    va_start(arguments, request);
    long pid = va_arg(arguments, int);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    /* libc's wrapper hands what is peeked back as the result, the system call through a pointer. */
    if (request >= PEEK_FIRST && request <= PEEK_LAST) {
        long peeked = 0;
        return call(request, pid, address, &peeked) < 0 ? -1 : peeked;
    }
    long result = call(request, pid, address, data);
    if (result != 0 && errno == EFAULT && request == SET_REGISTERS && address == (void *) X86_XSTATE)
        return set_whole(pid, data);
    return result;
}
