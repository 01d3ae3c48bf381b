/*
 * select country, count(*), sum(cents)
 * from orders
 * join customers on orders.customer = customers.id
 * group by country
 *
 * Two sources, each with a window of its own. The hash table is the module's own memory, of a size
 * that the host sets: build() fills it with as many customers as it has room for, probe() reads all
 * orders against it. The host calls the one and the other until all customers had their turn. The
 * customers' window stays where it is while the orders pass through theirs.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../guest/hostmap.h"

#define EXPORT(name) __attribute__((export_name(#name)))

HOSTMAP_SOURCE(customers);
HOSTMAP_SOURCE(orders);

/* As tables.mjs writes them. */
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
static hostmap_block unread; /* customers that are shown, and in no table yet */

enum { countries = 256 };

/* The host reads these: see worker.mjs. */
typedef struct {
  uint64_t orders;
  uint64_t cents;
} group;

static group groups[countries];

/* All bits of an id decide about the low ones. The factor is 2^32 divided by the golden ratio. */
static uint32_t hash(uint32_t id) {
  id = (id ^ (id >> 16)) * 0x9e3779b1u;
  id = (id ^ (id >> 15)) * 0x9e3779b1u;
  return id ^ (id >> 16);
}

/* The slot that holds this customer, or the free one where he belongs. */
static inline slot *find(uint32_t id) {
  uint32_t i = hash(id) & (capacity - 1);
  while (slots[i].country && slots[i].id != id) i = (i + 1) & (capacity - 1);
  return &slots[i];
}

/* Makes a table for this many customers. False when malloc has no memory for it. */
EXPORT(start)
bool start(uint32_t customers_at_once) {
  most = customers_at_once;
  for (capacity = 1; capacity / 2 < most; capacity *= 2) {}
  slots = malloc(capacity * sizeof *slots);
  customer_records = hostmap_records_of(&customers, sizeof(customer));
  return slots != NULL;
}

/*
 * Loops over rows are functions of their own, called again for each block: see
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
 * In batches: the slots where the search starts are loaded first, so that the processor waits for
 * all of them at once and not for one after the other. The table is larger than its caches.
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

/* Fills the table with the next customers. Gives how many: 0 at the end. */
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

/* Reads all orders, and adds those of the customers in the table to their countries. */
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
