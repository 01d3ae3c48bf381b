/*
 * select country, count(*), sum(cents)
 * from orders
 * join customers on orders.customer = customers.id
 * group by country
 *
 * Two sources, each with its own window. The hash table is in the module's memory and has a size
 * that the host sets: build() fills it with customers, and probe() looks up all orders in it. The
 * host calls both in turn until no customers are left. The customers' window stays in place while
 * the orders pass through the other one.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../guest/hostmap.h"

#define EXPORT(name) __attribute__((export_name(#name)))

HOSTMAP_SOURCE(customers);
HOSTMAP_SOURCE(orders);

/* tables.mjs writes these. */
typedef struct {
  uint32_t id;
  uint32_t country; /* 1 to 255 */
  char name[40];
} customer;

typedef struct {
  uint32_t customer;
  uint32_t cents;
  uint32_t seconds;
  uint32_t product;
  char reference[24];
} order;

_Static_assert(sizeof(customer) == 48 && sizeof(order) == 40, "as tables.mjs writes them");

/* An open-addressing hash table with linear probing, never more than half full. */
typedef struct {
  uint32_t id;
  uint32_t country; /* 0: the slot is free */
} slot;

static slot *slots;
static uint32_t capacity; /* slots, a power of two */
static uint32_t most;     /* customers */

static hostmap_records customer_records;
static hostmap_block unread; /* customers that are shown, but not in the table yet */

enum { countries = 256 };

/* worker.mjs reads these. */
typedef struct {
  uint64_t orders;
  uint64_t cents;
} group;

static group groups[countries];

/* Multiplies by 2^32 divided by the golden ratio, so that all bits of an id matter. */
static uint32_t hash(uint32_t id) {
  id = (id ^ (id >> 16)) * 0x9e3779b1u;
  id = (id ^ (id >> 15)) * 0x9e3779b1u;
  return id ^ (id >> 16);
}

/* The slot of this customer, or the free one for it. */
static inline slot *find(uint32_t id) {
  uint32_t i = hash(id) & (capacity - 1);
  while (slots[i].country && slots[i].id != id) i = (i + 1) & (capacity - 1);
  return &slots[i];
}

/* Makes a table for this many customers. Returns false if malloc has no memory for it. */
EXPORT(start)
bool start(uint32_t customers_at_once) {
  most = customers_at_once;
  for (capacity = 1; capacity / 2 < most; capacity *= 2) {}
  slots = malloc(capacity * sizeof *slots);
  customer_records = hostmap_records_of(&customers, sizeof(customer));
  return slots != NULL;
}

/*
 * Loops over rows are separate functions, called for each block: see
 * examples/aggregate/aggregate.c.
 */

__attribute__((noinline)) static void insert(const customer *customer, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    uint32_t country = customer[i].country;
    if (country == 0 || country >= countries) __builtin_trap();
    *find(customer[i].id) = (slot){customer[i].id, country};
  }
}

/*
 * Works in batches: it first loads the slots where the searches start, so that the processor waits
 * for all of them at once. The table is larger than the processor's caches.
 */
__attribute__((noinline)) static void look_up(const order *order, size_t count) {
  enum { batch = 64 };
  slot first[batch];
  for (; count != 0; order += batch) {
    size_t in_batch = count < batch ? count : batch;
    for (size_t i = 0; i < in_batch; i++) first[i] = slots[hash(order[i].customer) & (capacity - 1)];
    for (size_t i = 0; i < in_batch; i++) {
      uint32_t country = first[i].country;
      if (country != 0 && first[i].id != order[i].customer) country = find(order[i].customer)->country;
      if (country == 0) continue;
      groups[country].orders++;
      groups[country].cents += order[i].cents;
    }
    count -= in_batch;
  }
}

/* Fills the table with the next customers. Returns how many; 0 at the end. */
EXPORT(build)
uint32_t build(void) {
  memset(slots, 0, capacity * sizeof *slots);
  uint32_t done = 0;
  while (done < most) {
    if (unread.count == 0 && !hostmap_records_next(&customer_records, &unread)) break;
    uint32_t count = unread.count < most - done ? unread.count : most - done;
    insert(unread.first, count);
    unread.first = (const customer *)unread.first + count;
    unread.count -= count;
    done += count;
  }
  return done;
}

/* Reads all orders, and counts those whose customer is in the table by country. */
EXPORT(probe)
void probe(void) {
  hostmap_records records = hostmap_records_of(&orders, sizeof(order));
  hostmap_block block;
  while (hostmap_records_next(&records, &block)) look_up(block.first, block.count);
}

/* By country. */
EXPORT(result)
const group *result(void) {
  return groups;
}
