/*
 * What each worker runs for a request, over the dataset that its host has mapped into its memory.
 */
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(#name)))

/* The upper half of every number is the version of the dataset. */
EXPORT(version)
uint32_t version(const uint64_t *numbers) {
  return (uint32_t)(numbers[0] >> 32);
}

EXPORT(sum)
uint64_t sum(const uint64_t *numbers, uint32_t from, uint32_t count) {
  uint64_t total = 0;
  for (uint32_t i = 0; i < count; i++) total += numbers[from + i];
  return total;
}
