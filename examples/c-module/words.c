/*
 * Counts the words of a text anywhere in linear memory: in a block from malloc, or in pages that
 * the host mapped. Only reads the text. The table of words grows with malloc and free, and its keys
 * point into the text, which must stay in place as long as the tally exists.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORT(name) __attribute__((export_name(#name)))

typedef struct {
  const unsigned char *text; /* NULL: the slot is free */
  uint32_t length;           /* bytes */
  uint32_t hash;
  uint32_t count;
} word;

/* An open-addressing hash table with linear probing, never more than half full. */
typedef struct {
  word *slots;
  uint32_t capacity; /* slots, a power of two */
  uint32_t distinct; /* slots in use */
  uint64_t total;    /* words of the text */
} tally;

static const uint32_t first_capacity = 1024;

/* ASCII letters and digits, and every byte of a multi-byte UTF-8 character. */
static inline bool in_word(unsigned char c) {
  return (unsigned)((c | 0x20) - 'a') < 26 || (unsigned)(c - '0') < 10 || c >= 0x80;
}

static inline unsigned char lower(unsigned char c) {
  return (unsigned)(c - 'A') < 26 ? c | 0x20 : c;
}

static bool same_word(const word *slot, const unsigned char *text, uint32_t length) {
  if (slot->length != length) return false;
  for (uint32_t i = 0; i < length; i++) {
    if (lower(slot->text[i]) != lower(text[i])) return false;
  }
  return true;
}

/* The slot of this word, or the free one where it belongs. */
static word *find(const tally *t, const unsigned char *text, uint32_t length, uint32_t hash) {
  uint32_t mask = t->capacity - 1;
  uint32_t i = hash & mask;
  while (t->slots[i].text && !(t->slots[i].hash == hash && same_word(&t->slots[i], text, length))) {
    i = (i + 1) & mask;
  }
  return &t->slots[i];
}

static bool double_capacity(tally *t) {
  word *slots = calloc((size_t)t->capacity * 2, sizeof *slots);
  if (!slots) return false;
  uint32_t mask = t->capacity * 2 - 1;
  for (uint32_t i = 0; i < t->capacity; i++) {
    if (!t->slots[i].text) continue;
    uint32_t j = t->slots[i].hash & mask;
    while (slots[j].text) j = (j + 1) & mask;
    slots[j] = t->slots[i];
  }
  free(t->slots);
  t->slots = slots;
  t->capacity *= 2;
  return true;
}

static bool add(tally *t, const unsigned char *text, uint32_t length, uint32_t hash) {
  word *slot = find(t, text, length, hash);
  if (!slot->text) {
    if (t->distinct == t->capacity / 2) {
      if (!double_capacity(t)) return false;
      slot = find(t, text, length, hash);
    }
    *slot = (word){.text = text, .length = length, .hash = hash};
    t->distinct++;
  }
  slot->count++;
  t->total++;
  return true;
}

EXPORT(tally_free)
void tally_free(tally *t) {
  if (!t) return;
  free(t->slots);
  free(t);
}

/* Returns NULL if malloc has no more memory. */
EXPORT(tally_words)
tally *tally_words(const unsigned char *text, size_t length) {
  tally *t = malloc(sizeof *t);
  if (!t) return NULL;
  *t = (tally){.slots = calloc(first_capacity, sizeof(word)), .capacity = first_capacity};
  if (!t->slots) goto out_of_memory;

  size_t i = 0;
  while (i < length) {
    while (i < length && !in_word(text[i])) i++;
    size_t start = i;
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; i < length && in_word(text[i]); i++) hash = (hash ^ lower(text[i])) * 16777619u;
    if (i > start && !add(t, text + start, (uint32_t)(i - start), hash)) goto out_of_memory;
  }
  return t;

out_of_memory:
  tally_free(t);
  return NULL;
}

EXPORT(tally_total)
uint64_t tally_total(const tally *t) {
  return t->total;
}

EXPORT(tally_distinct)
uint32_t tally_distinct(const tally *t) {
  return t->distinct;
}

/*
 * Depends only on the words and their counts, not on the text's address or the table's order.
 */
EXPORT(tally_digest)
uint64_t tally_digest(const tally *t) {
  uint64_t digest = 0;
  for (uint32_t i = 0; i < t->capacity; i++) {
    const word *w = &t->slots[i];
    if (!w->text) continue;
    uint64_t mixed = ((uint64_t)w->hash << 32 | w->count) * 0x9e3779b97f4a7c15u;
    digest += mixed ^ (mixed >> 29) ^ w->length;
  }
  return digest;
}

static int by_count_then_text(const void *left, const void *right) {
  const word *a = *(const word *const *)left;
  const word *b = *(const word *const *)right;
  if (a->count != b->count) return a->count < b->count ? 1 : -1;
  for (uint32_t i = 0; i < a->length && i < b->length; i++) {
    if (lower(a->text[i]) != lower(b->text[i])) return lower(a->text[i]) < lower(b->text[i]) ? -1 : 1;
  }
  return a->length == b->length ? 0 : a->length < b->length ? -1 : 1;
}

/* Prints the most frequent words to stdout. Returns false if malloc has no more memory. */
EXPORT(tally_print)
bool tally_print(const tally *t, uint32_t most) {
  const word **words = malloc((size_t)t->distinct * sizeof *words);
  if (!words && t->distinct) return false;
  uint32_t n = 0;
  for (uint32_t i = 0; i < t->capacity; i++) {
    if (t->slots[i].text) words[n++] = &t->slots[i];
  }
  qsort(words, n, sizeof *words, by_count_then_text);
  for (uint32_t i = 0; i < n && i < most; i++) {
    printf("%12u  %.*s\n", words[i]->count, (int)words[i]->length, (const char *)words[i]->text);
  }
  fflush(stdout);
  free(words);
  return true;
}
