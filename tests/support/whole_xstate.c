/* A preloaded library with which Debian's user-mode Linux 6.12 boots on processors with AMX.
 *
 * The user-mode kernel keeps 2,696 bytes of a process's floating-point state. The host's ptrace sets only a
 * whole state (11,008 bytes with AMX) and fails with EFAULT for less: "ptrace set fp regs failed, errno = 14".
 * This ptrace adds the missing end from the current state of the process. That is correct because no process
 * in the user-mode kernel uses AMX.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

enum { GETREGSET = 0x4204, SETREGSET = 0x4205, X86_XSTATE = 0x202 };
enum { STATE_BYTES_MAX = 65536 };

typedef long ptrace_call(int, int, void *, void *);

long ptrace(int request, int pid, void *address, void *data)
{
    static char state[STATE_BYTES_MAX] __attribute__((aligned(64)));
    static ptrace_call *next;
    if (!next)
        next = (ptrace_call *)dlsym(RTLD_NEXT, "ptrace");
    long result = next(request, pid, address, data);
    if (result == 0 || errno != EFAULT || request != SETREGSET || (long)address != X86_XSTATE)
        return result;
    const struct iovec *part = data;
    struct iovec whole = {state, sizeof state};
    if (part->iov_len > sizeof state || next(GETREGSET, pid, address, &whole) != 0) {
        errno = EFAULT;
        return -1;
    }
    memcpy(state, part->iov_base, part->iov_len);
    return next(SETREGSET, pid, address, &whole);
}
