/*
 * Counts how often each word of a text occurs. The text comes through a window: the host shows it
 * chunk by chunk, and words that straddle two chunks are whole.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "../../guest/hostmap.h"

#define EXPORT(name) __attribute__((export_name(#name)))

HOSTMAP_SOURCE(text);

/* worker.mjs reads these fields. */
typedef struct {
  unsigned char *bytes; /* a copy in lower case, as the text does not stay; NULL: the slot is free */
  uint32_t length;
  uint64_t count;
  uint32_t hash;
} word;

_Static_assert(sizeof(word) == 24, "as worker.mjs reads it");

/* An open-addressing hash table with linear probing, never more than half full. */
static word *slots;
static uint32_t capacity; /* a power of two */
static uint32_t distinct; /* slots in use */

/* ASCII letters and digits, and every byte of a multi-byte UTF-8 character. */
static int in_word(unsigned char c) {
  return (unsigned)((c | 0x20) - 'a') < 26 || (unsigned)(c - '0') < 10 || c >= 0x80;
}

static inline unsigned char lower(unsigned char c) {
  return (unsigned)(c - 'A') < 26 ? c | 0x20 : c;
}

static uint32_t hash_of(hostmap_span span) {
  uint32_t hash = 2166136261u; /* FNV-1a */
  for (size_t i = 0; i < span.length; i++) hash = (hash ^ lower(span.bytes[i])) * 16777619u;
  return hash;
}

static bool is_word(const word *slot, hostmap_span span, uint32_t hash) {
  if (slot->hash != hash || slot->length != span.length) return false;
  for (size_t i = 0; i < span.length; i++) {
    if (slot->bytes[i] != lower(span.bytes[i])) return false;
  }
  return true;
}

static bool enlarge(void) {
  uint32_t larger = capacity ? capacity * 2 : 1024;
  word *moved = calloc(larger, sizeof *moved);
  if (!moved) return false;
  for (uint32_t i = 0; i < capacity; i++) {
    if (!slots[i].bytes) continue;
    uint32_t j = slots[i].hash & (larger - 1);
    while (moved[j].bytes) j = (j + 1) & (larger - 1);
    moved[j] = slots[i];
  }
  free(slots);
  slots = moved;
  capacity = larger;
  return true;
}

static bool add(hostmap_span span) {
  if (distinct == capacity / 2 && !enlarge()) return false;
  uint32_t hash = hash_of(span);
  uint32_t i = hash & (capacity - 1);
  while (slots[i].bytes && !is_word(&slots[i], span, hash)) i = (i + 1) & (capacity - 1);
  word *slot = &slots[i];
  if (!slot->bytes) {
    slot->bytes = malloc(span.length);
    if (!slot->bytes) return false;
    for (size_t j = 0; j < span.length; j++) slot->bytes[j] = lower(span.bytes[j]);
    slot->length = span.length;
    slot->hash = hash;
    distinct++;
  }
  slot->count++;
  return true;
}

/* Counts the words of the source. Returns false if malloc has no more memory. */
EXPORT(count_words)
bool count_words(void) {
  hostmap_text words = hostmap_words_of(&text, in_word);
  hostmap_span span;
  while (hostmap_text_next(&words, &span)) {
    if (!add(span)) return false;
  }
  return true;
}

EXPORT(table_slots)
const word *table_slots(void) {
  return slots;
}

EXPORT(table_capacity)
uint32_t table_capacity(void) {
  return capacity;
}
