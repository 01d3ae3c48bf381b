/*
 * select district, count(*), sum(watt_hours) from readings group by district
 *
 * The readings come through a window: the host shows them chunk by chunk, and readings that
 * straddle two chunks are whole.
 */
#include <stdbool.h>
#include <stdint.h>

#include "../../guest/hostmap.h"

#define EXPORT(name) __attribute__((export_name(#name)))

HOSTMAP_SOURCE(readings);

/* readings.mjs writes these. */
typedef struct {
  uint64_t watt_hours;
  uint32_t seconds;
  uint32_t meter;
  uint32_t district; /* 0: an empty slot */
  uint32_t status;
} reading;

_Static_assert(sizeof(reading) == 24, "as readings.mjs writes it");

enum { districts = 256 };

/* worker.mjs reads these. */
typedef struct {
  uint64_t count;
  uint64_t watt_hours;
} group;

static group groups[districts];

/*
 * Adds a block. Returns false if a reading has an impossible district.
 *
 * This is a separate function, called for each block, because V8 switches to optimized code only at
 * calls: one loop over all blocks would run in slow baseline code to its end.
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

/* Returns the groups, by district; NULL if a reading has an impossible district. */
EXPORT(aggregate)
const group *aggregate(void) {
  hostmap_records records = hostmap_records_of(&readings, sizeof(reading));
  hostmap_block block;
  while (hostmap_records_next(&records, &block)) {
    if (!add(block.first, block.count)) return NULL;
  }
  return groups;
}
