// What the kernel has of what the package uses, and how it is to do without.
//
//   kernel probe                       prints { "PROCMAP_QUERY": true, ... }
//   kernel without NAME[,NAME] COMMAND runs COMMAND on a kernel that seems not to have them
//
// `without` refuses the calls by seccomp, with the error that a kernel gives that never heard of
// them; for MAP_FIXED the kernel says an old version of itself. So one kernel can say what a
// fallback costs: with the same processor, pages and files.
//
// It is a program of its own, since it has to be what Node.js is started by; and in C, since it is
// built for each processor by whatever compiler is here.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROCMAP_QUERY_CALL 0xc0686611u // _IOWR('f', 17, 104 bytes)
#define PAGEMAP_SCAN_CALL 0xc0606610u  // _IOWR('f', 16, 96 bytes)
#define POPULATE_READ 22
#define POPULATE_WRITE 23
#define COLLAPSE 25
#define DONTUNMAP 4
#define FUTEX_WAITV_NUMBER 449
#ifndef __NR_userfaultfd
#error "no userfaultfd on this processor"
#endif

struct scan {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, anyof, returned;
};
struct query {
  uint64_t size, flags, address, rest[10];
};

static int has_scan(void) {
  int fd = open("/proc/self/pagemap", O_RDONLY);
  struct scan argument = {.size = sizeof argument, .start = 0, .end = 4096 * 16};
  int done = ioctl(fd, PAGEMAP_SCAN_CALL, &argument) >= 0;
  close(fd);
  return done;
}

static int has_query(void) {
  int fd = open("/proc/self/maps", O_RDONLY);
  struct query argument = {.size = sizeof argument, .address = (uint64_t)(uintptr_t)&argument};
  int done = ioctl(fd, PROCMAP_QUERY_CALL, &argument) >= 0;
  close(fd);
  return done;
}

// Whether madvise knows it: EINVAL says that it does not, and it may fail for other reasons.
static int has_advice(int advice) {
  // Room for one huge page at its place, whatever the size of small ones (32 MiB with 16 KiB).
  size_t huge = 32 << 20, bytes = 2 * huge;
  char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  char *place = (char *)(((uintptr_t)at + huge - 1) & ~(uintptr_t)(huge - 1));
  // Where nothing is, there is nothing to collapse, which is EINVAL too.
  for (size_t part = 0; part < huge; part += 2 << 20) place[part] = 1;
  int known = madvise(place, advice == COLLAPSE ? huge : 1 << 16, advice) == 0 || errno != EINVAL;
  munmap(at, bytes);
  return known;
}

static int moves_files(void) {
  int fd = memfd_create("probe", 0);
  long bytes = sysconf(_SC_PAGESIZE);
  if (ftruncate(fd, bytes) != 0) return 0;
  char *at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
  char *moved = mremap(at, bytes, bytes, MREMAP_MAYMOVE | DONTUNMAP, NULL);
  return moved != MAP_FAILED;
}

// Whether a mapping that fails leaves what it was to replace, as from 6.12 on. What fails is more
// memory than there is; -1 where the system refuses nobody (vm.overcommit_memory is 1).
static int replaces_in_one_step(void) {
  size_t bytes = (size_t)1 << 42;
  int reserved = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  char *at = mmap(NULL, bytes, PROT_NONE, reserved, -1, 0);
  if (at == MAP_FAILED) return -1;
  int over = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  if (mmap(at, bytes, PROT_READ | PROT_WRITE, over, -1, 0) != MAP_FAILED) {
    munmap(at, bytes);
    return -1;
  }
  unsigned char there;
  int kept = mincore(at, 1, &there) == 0;
  munmap(at, bytes);
  return kept;
}

static int has_waitv(void) {
  syscall(FUTEX_WAITV_NUMBER, NULL, 0, 0, NULL, 0);
  return errno != ENOSYS;
}

static int has_userfaultfd(void) {
  // 1: faults of the process itself only, which needs no privilege, from 5.11 on.
  long fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1);
  return fd >= 0;
}

static int probe(void) {
  int step = replaces_in_one_step();
  printf("{\n");
  printf("  \"PROCMAP_QUERY\": %s,\n", has_query() ? "true" : "false");
  printf("  \"PAGEMAP_SCAN\": %s,\n", has_scan() ? "true" : "false");
  printf("  \"MADV_COLLAPSE\": %s,\n", has_advice(COLLAPSE) ? "true" : "false");
  printf("  \"MADV_POPULATE\": %s,\n",
         has_advice(POPULATE_READ) && has_advice(POPULATE_WRITE) ? "true" : "false");
  printf("  \"MREMAP_DONTUNMAP\": %s,\n", moves_files() ? "true" : "false");
  printf("  \"MAP_FIXED\": %s,\n", step < 0 ? "null" : step ? "true" : "false");
  printf("  \"futex_waitv\": %s,\n", has_waitv() ? "true" : "false");
  printf("  \"userfaultfd\": %s\n", has_userfaultfd() ? "true" : "false");
  printf("}\n");
  return 0;
}

// A filter of seccomp: `refuse` adds the steps that refuse one call if an argument is as given.
static struct sock_filter filter[128];
static unsigned short steps;

#define DATA(field) (uint32_t) offsetof(struct seccomp_data, field)
#define ARGUMENT(n) (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (n))

static void add(struct sock_filter step) { filter[steps++] = step; }

// argument -1: whatever they are. Otherwise it must be `value`, or have all bits of it (`is_flag`).
static void refuse(uint32_t number, int argument, uint32_t value, int is_flag, int error) {
  uint8_t rest = argument < 0 ? 1 : 3;
  add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DATA(nr)));
  add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, rest));
  if (argument >= 0) {
    add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(argument)));
    uint16_t test = is_flag ? BPF_JSET : BPF_JEQ;
    add((struct sock_filter)BPF_JUMP(BPF_JMP | test | BPF_K, value, 0, 1));
  }
  add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error));
}

static int refuse_by_name(const char *name) {
  if (strcmp(name, "PROCMAP_QUERY") == 0) refuse(__NR_ioctl, 1, PROCMAP_QUERY_CALL, 0, ENOTTY);
  else if (strcmp(name, "PAGEMAP_SCAN") == 0) refuse(__NR_ioctl, 1, PAGEMAP_SCAN_CALL, 0, ENOTTY);
  else if (strcmp(name, "MADV_COLLAPSE") == 0) refuse(__NR_madvise, 2, COLLAPSE, 0, EINVAL);
  else if (strcmp(name, "MADV_POPULATE") == 0) {
    refuse(__NR_madvise, 2, POPULATE_READ, 0, EINVAL);
    refuse(__NR_madvise, 2, POPULATE_WRITE, 0, EINVAL);
  } else if (strcmp(name, "MREMAP_DONTUNMAP") == 0) refuse(__NR_mremap, 3, DONTUNMAP, 1, EINVAL);
  else if (strcmp(name, "futex_waitv") == 0) refuse(FUTEX_WAITV_NUMBER, -1, 0, 0, ENOSYS);
  else if (strcmp(name, "userfaultfd") == 0) refuse(__NR_userfaultfd, -1, 0, 0, ENOSYS);
  // The kernel's version decides what the package does: see src/sys/mmap/strategy.rs.
  else if (strcmp(name, "MAP_FIXED") == 0) return personality(UNAME26) == -1 ? -1 : 0;
  // A filter that refuses nothing: what is compared pays for a filter, too.
  else if (strcmp(name, "nothing") == 0) refuse(__NR_userfaultfd, 0, 0xffffffffu, 0, ENOSYS);
  else return -1;
  return 0;
}

static int without(char *names, char **command) {
  for (char *name = strtok(names, ","); name != NULL; name = strtok(NULL, ",")) {
    if (refuse_by_name(name) != 0) {
      fprintf(stderr, "kernel without %s: no such call\n", name);
      return 2;
    }
  }
  add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  struct sock_fprog program = {.len = steps, .filter = filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    perror("seccomp");
    return 3;
  }
  execvp(command[0], command);
  perror(command[0]);
  return 127;
}

int main(int count, char **words) {
  if (count == 2 && strcmp(words[1], "probe") == 0) return probe();
  if (count > 3 && strcmp(words[1], "without") == 0) return without(words[2], words + 3);
  fprintf(stderr, "kernel probe | kernel without NAME[,NAME] COMMAND...\n");
  return 2;
}
