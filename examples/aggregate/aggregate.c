/*
 * select district, count(*), sum(watt_hours) from readings group by district
 *
 * The readings come through a window: the host shows them chunk by chunk, and a reading that
 * straddles two chunks is whole all the same.
 */
#include <stdbool.h>
#include <stdint.h>

#include "../../guest/hostmap.h"

#define EXPORT(name) __attribute__((export_name(#name)))

HOSTMAP_SOURCE(readings);

/* As readings.mjs writes it. */
typedef struct {
  uint64_t watt_hours;
  uint32_t seconds;
  uint32_t meter;
  uint32_t district; /* 0: nobody wrote this slot */
  uint32_t status;
} reading;

_Static_assert(sizeof(reading) == 24, "as readings.mjs writes it");

enum { districts = 256 };

/* The host reads these: see worker.mjs. */
typedef struct {
  uint64_t count;
  uint64_t watt_hours;
} group;

static group groups[districts];

/*
 * Adds a block. False if it has a district that can't be.
 *
 * A function of its own, called again for each block: V8 puts optimized code in place at calls
 * only, so a loop over all blocks would run in its first, slow code to the end.
 */
__attribute__((noinline)) static bool add(const reading *reading, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (reading[i].district >= districts) return false;
    group *group = &groups[reading[i].district];
    group->count++;
    group->watt_hours += reading[i].watt_hours;
  }
  return true;
}

/* Gives the groups, by district; NULL if a reading has one that can't be. */
EXPORT(aggregate)
const group *aggregate(void) {
  hostmap_records records = hostmap_records_of(&readings, sizeof(reading));
  hostmap_block block;
  while (hostmap_records_next(&records, &block)) {
    if (!add(block.first, block.count)) return NULL;
  }
  return groups;
}
