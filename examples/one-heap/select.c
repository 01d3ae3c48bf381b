/* The readings of at least so many watt hours, as pointers into the dataset. */
#include <stdint.h>

#include "programs.h"

/* Counts first, so that the block has the right size. Returns NULL if the heap is full. */
static uint32_t count_of(const reading *readings, uint32_t count, uint64_t least) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < count; i++) found += readings[i].watt_hours >= least;
  return found;
}

EXPORT(select)
selection *select(const reading *readings, uint32_t count, uint64_t least) {
  uint32_t found = count_of(readings, count, least);
  selection *selected = heap_malloc(sizeof *selected + found * sizeof selected->readings[0]);
  if (!selected) return 0;
  selected->count = 0;
  for (uint32_t i = 0; i < count && selected->count < found; i++) {
    if (readings[i].watt_hours >= least) selected->readings[selected->count++] = &readings[i];
  }
  return selected;
}
