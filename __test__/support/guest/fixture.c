/*
 * Calls all of guest/hostmap.h, and reports to the host what it was given. Valid C99 and C++11.
 *
 * Each export ends with the digest of the bytes that it read itself, in order.
 */
#include "../../../guest/hostmap.h"
#include <stdint.h>

#ifdef __cplusplus
#define EXPORT(name) extern "C" __attribute__((export_name(#name)))
#else
#define EXPORT(name) __attribute__((export_name(#name)))
#endif

HOSTMAP_SOURCE(left);
HOSTMAP_SOURCE(right);

/* So many records, each of `bytes`, are at `first`. */
HOSTMAP_IMPORT __attribute__((import_module("test"), import_name("report"))) void report(
    const void *first, size_t count, size_t bytes);

static uint32_t digest(uint32_t before, const void *first, size_t length) {
  const unsigned char *bytes = (const unsigned char *)first;
  for (size_t i = 0; i < length; i++) before = (before ^ bytes[i]) * 16777619u; /* FNV-1a */
  return before;
}

static const uint32_t nothing = 2166136261u;

EXPORT(chunks) uint32_t chunks(void) {
  uint32_t read = nothing;
  hostmap_span chunk;
  while (hostmap_chunk_next(&left, &chunk)) {
    report(chunk.bytes, 1, chunk.length);
    read = digest(read, chunk.bytes, chunk.length);
  }
  return read;
}

EXPORT(chunks_keeping) uint32_t chunks_keeping(size_t keep) {
  uint32_t read = nothing;
  hostmap_span chunk;
  while (hostmap_chunk_next_keeping(&left, keep, &chunk)) {
    report(chunk.bytes, 1, chunk.length);
    read = digest(read, chunk.bytes, chunk.length);
  }
  return read;
}

/* What is left over is reported last, also when it is nothing. */
EXPORT(records) uint32_t records(size_t record_bytes) {
  uint32_t read = nothing;
  hostmap_records orders = hostmap_records_of(&left, record_bytes);
  hostmap_block block;
  while (hostmap_records_next(&orders, &block)) {
    report(block.first, block.count, record_bytes);
    read = digest(read, block.first, block.count * record_bytes);
  }
  report(orders.left_over.bytes, 1, orders.left_over.length);
  return digest(read, orders.left_over.bytes, orders.left_over.length);
}

static uint32_t report_text(hostmap_text *text) {
  uint32_t read = nothing;
  hostmap_span record;
  while (hostmap_text_next(text, &record)) {
    report(record.bytes, 1, record.length);
    read = digest(read, record.bytes, record.length);
  }
  return read;
}

static int unterminated;

EXPORT(lines) uint32_t lines(int delimiter) {
  hostmap_text text = hostmap_lines_of(&left, (char)delimiter);
  uint32_t read = report_text(&text);
  unterminated = text.unterminated;
  return read;
}

EXPORT(was_unterminated) int was_unterminated(void) {
  return unterminated;
}

static int in_word(unsigned char byte) {
  return (byte >= 'a' && byte <= 'z') || byte >= 0x80;
}

EXPORT(words) uint32_t words(void) {
  hostmap_text text = hostmap_words_of(&left, in_word);
  return report_text(&text);
}

/* Records of two sizes, both sorted by key. */
typedef struct {
  uint32_t key;
  uint32_t price;
} item;

typedef struct {
  uint32_t key;
  uint32_t count;
  uint32_t customer;
} order;

/* The next record of a source, NULL at the end. */
typedef struct {
  hostmap_records records;
  hostmap_block block;
  size_t index;
} cursor;

static cursor cursor_of(const hostmap_source *source, size_t record_bytes) {
  cursor c;
  c.records = hostmap_records_of(source, record_bytes);
  c.block.first = NULL;
  c.block.count = 0;
  c.index = 0;
  return c;
}

static const void *cursor_next(cursor *c) {
  if (c->index == c->block.count) {
    if (!hostmap_records_next(&c->records, &c->block)) return NULL;
    c->index = 0;
  }
  return (const unsigned char *)c->block.first + c->index++ * c->records.record_bytes;
}

/* What all orders come to: a merge join, each side through a window of its own. */
EXPORT(join) uint64_t join(void) {
  cursor items = cursor_of(&left, sizeof(item)), orders = cursor_of(&right, sizeof(order));
  const item *i = (const item *)cursor_next(&items);
  const order *o = (const order *)cursor_next(&orders);
  uint64_t total = 0;
  while (i && o) {
    if (i->key < o->key) {
      i = (const item *)cursor_next(&items);
    } else {
      if (i->key == o->key) total += (uint64_t)i->price * o->count;
      o = (const order *)cursor_next(&orders);
    }
  }
  return total;
}
