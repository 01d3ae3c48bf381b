/*
 * A module that works in a process of its own. Its host maps the dataset and the slots of the ring
 * into its memory: it reads a request where it is, and writes the answer next to it.
 */
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(#name)))

/* ring.mjs reads and writes it. */
typedef struct {
  uint32_t operation;
  uint32_t from; /* numbers of the dataset: from and count */
  uint32_t count;
  uint32_t reserved;
  int64_t result;
} slot;

_Static_assert(sizeof(slot) == 24, "as ring.mjs has it");

enum { sum, trap, endless, hungry };

static int64_t sum_of(const int64_t *numbers, uint32_t count) {
  int64_t total = 0;
  for (uint32_t i = 0; i < count; i++) total += numbers[i];
  return total;
}

/* Takes memory until there is none, and uses it. */
static int64_t take_all(void) {
  int64_t megabytes = 0;
  enum { step = 256 }; /* pages of 64 KiB: 16 MiB */
  for (;; megabytes += 16) {
    uintptr_t page = __builtin_wasm_memory_grow(0, step);
    if (page == (uintptr_t)-1) return megabytes;
    for (uint32_t at = 0; at < step * 65536; at += 4096) ((char *)(page * 65536))[at] = 1;
  }
}

EXPORT(handle)
void handle(slot *slot, const int64_t *numbers, uint32_t count) {
  switch (slot->operation) {
    case sum:
      if (slot->from > count || slot->count > count - slot->from) __builtin_trap();
      slot->result = sum_of(numbers + slot->from, slot->count);
      return;
    case endless:
      for (volatile int on = 1; on;) {
      }
      return;
    case hungry:
      slot->result = take_all();
      return;
    default:
      __builtin_trap();
  }
}
