/* What the three programs share: a heap, and what they hand to each other in it. */
#pragma once

#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(#name)))

/* The heap's own functions: a program calls them as it would a C library's. */
__attribute__((import_module("heap"), import_name("malloc"))) void *heap_malloc(uint32_t bytes);
__attribute__((import_module("heap"), import_name("free"))) void heap_free(void *block);

/* A record of the dataset, which the host maps. readings.mjs writes it. */
typedef struct {
  uint64_t watt_hours;
  uint32_t seconds;
  uint32_t meter;
} reading;

_Static_assert(sizeof(reading) == 16, "as readings.mjs writes it");

/* select.c makes it: pointers into the dataset. The host reads and, to copy it, writes it. */
typedef struct {
  uint32_t count;
  const reading *readings[];
} selection;

/* group.c makes it: a hash table, of 2^bits places. The host reads it, too. */
typedef struct {
  uint64_t watt_hours;
  uint32_t meter;
  uint32_t count; /* 0: an empty place */
} group;

typedef struct {
  uint32_t bits;
  uint32_t used;
  group groups[];
} groups;
