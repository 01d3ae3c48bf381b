/* Adds up the readings of each meter, in a hash table. */
#include <stdint.h>

#include "programs.h"

enum { least_bits = 4 };

static uint32_t place_of(uint32_t meter, uint32_t bits) {
  return (meter * 2654435769u) >> (32 - bits);
}

static groups *make(uint32_t bits) {
  uint32_t places = 1u << bits;
  groups *made = heap_malloc(sizeof *made + places * sizeof made->groups[0]);
  if (!made) return 0;
  made->bits = bits;
  made->used = 0;
  for (uint32_t i = 0; i < places; i++) made->groups[i] = (group){0, 0, 0};
  return made;
}

static group *find(groups *table, uint32_t meter) {
  uint32_t mask = (1u << table->bits) - 1;
  uint32_t place = place_of(meter, table->bits);
  while (table->groups[place].count && table->groups[place].meter != meter)
    place = (place + 1) & mask;
  return &table->groups[place];
}

static groups *twice(groups *table) {
  groups *larger = make(table->bits + 1);
  if (larger) {
    for (uint32_t i = 0; i < 1u << table->bits; i++) {
      const group *group = &table->groups[i];
      if (group->count) *find(larger, group->meter) = *group;
    }
    larger->used = table->used;
  }
  heap_free(table);
  return larger;
}

/* Returns NULL if the heap is full. */
EXPORT(group)
groups *group_readings(const selection *selected) {
  groups *table = make(least_bits);
  for (uint32_t i = 0; table && i < selected->count; i++) {
    const reading *reading = selected->readings[i];
    group *group = find(table, reading->meter);
    if (!group->count) {
      group->meter = reading->meter;
      table->used++;
    }
    group->count++;
    group->watt_hours += reading->watt_hours;
    if (table->used * 4 > (3u << table->bits)) table = twice(table);
  }
  return table;
}
