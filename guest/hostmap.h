/*
 * Reads regions of any size through a window of wasm-hostmap, chunk by chunk, in the module's own
 * memory.
 *
 * A single header: C99 or C++11, clang for wasm32 or wasm64, no libc. See README.md for examples.
 *
 *   HOSTMAP_SOURCE(orders);              the host passes { orders: source.imports }
 *
 *   hostmap_chunk_next                   chunks as the host divides them
 *   hostmap_records_of, _records_next    blocks of whole records of a fixed size
 *   hostmap_lines_of, _text_next         records that end at a delimiter, one by one
 *   hostmap_words_of, _text_next         words, one by one
 *
 * What a call returns is read-only and valid until the next call for the same source, when the host
 * shows other bytes there. After the end, the last bytes stay.
 *
 * Records that straddle chunks are whole: their first bytes are shown again in front of the next
 * chunk. If the window can't hold a record, the host throws an error through the module.
 */
#ifndef HOSTMAP_H
#define HOSTMAP_H

#include <stddef.h>

#ifdef __cplusplus
#define HOSTMAP_IMPORT extern "C"
#else
#define HOSTMAP_IMPORT extern
#endif

/* The host's functions. Each source has its own window, so a module can read several at once. */
typedef struct hostmap_source {
  /* Shows the next chunk, with the last `keep` shown bytes in front of it. Returns how many bytes
     are shown; 0 at the end. */
  size_t (*next)(size_t keep);
  /* The same, but keeps as many bytes as the host's `overlap` option says. */
  size_t (*next_overlapping)(void);
  /* Returns the address of the first shown byte, which equals the byte's offset in the region
     modulo the host's page size. */
  const void *(*pointer)(void);
} hostmap_source;

#define HOSTMAP_FUNCTION(module, function) \
  HOSTMAP_IMPORT __attribute__((import_module(module), import_name(function)))

/* Imports the source `name` from the import module "name". Use at file scope, with a semicolon. */
#define HOSTMAP_SOURCE(name)                                                             \
  HOSTMAP_FUNCTION(#name, "next") size_t hostmap_source_##name##_next(size_t keep);      \
  HOSTMAP_FUNCTION(#name, "next") size_t hostmap_source_##name##_next_overlapping(void); \
  HOSTMAP_FUNCTION(#name, "pointer") const void *hostmap_source_##name##_pointer(void);  \
  static const hostmap_source name __attribute__((unused)) = {                           \
      hostmap_source_##name##_next,                                                      \
      hostmap_source_##name##_next_overlapping,                                          \
      hostmap_source_##name##_pointer,                                                   \
  }

/* Shown bytes. */
typedef struct hostmap_span {
  const unsigned char *bytes;
  size_t length;
} hostmap_span;

/* Gets the next chunk. Returns 0 at the end. */
static inline int hostmap_chunk_next(const hostmap_source *source, hostmap_span *chunk) {
  size_t shown = source->next_overlapping();
  if (shown == 0) return 0;
  chunk->bytes = (const unsigned char *)source->pointer();
  chunk->length = shown;
  return 1;
}

/* Gets the next chunk, preceded by the last `keep` bytes of this one. Returns 0 at the end. */
static inline int hostmap_chunk_next_keeping(const hostmap_source *source, size_t keep, hostmap_span *chunk) {
  size_t shown = source->next(keep);
  if (shown == 0) return 0;
  chunk->bytes = (const unsigned char *)source->pointer();
  chunk->length = shown;
  return 1;
}

/* Consecutive whole records. */
typedef struct hostmap_block {
  const void *first;
  size_t count; /* at least 1 */
} hostmap_block;

typedef struct hostmap_records {
  const hostmap_source *source;
  size_t record_bytes;
  /* The incomplete record after the block. At the end: what is too short for a record. */
  hostmap_span left_over;
} hostmap_records;

/*
 * Starts reading records of `record_bytes` each, usually a struct's sizeof. They are aligned as in
 * the region: if the source starts at a multiple of the struct's alignment, so does each record.
 * Otherwise pack the struct, or copy each one with memcpy.
 */
static inline hostmap_records hostmap_records_of(const hostmap_source *source, size_t record_bytes) {
  hostmap_records records;
  if (record_bytes == 0) __builtin_trap();
  records.source = source;
  records.record_bytes = record_bytes;
  records.left_over.bytes = NULL;
  records.left_over.length = 0;
  return records;
}

/*
 * Gets the next block, of at least one record. Returns 0 at the end, when `left_over` holds what
 * follows the last whole record.
 */
static inline int hostmap_records_next(hostmap_records *records, hostmap_block *block) {
  hostmap_span chunk;
  /* If a chunk is shorter than a record, keep all of it and ask for more. */
  while (hostmap_chunk_next_keeping(records->source, records->left_over.length, &chunk)) {
    size_t left_over = chunk.length % records->record_bytes;
    records->left_over.bytes = chunk.bytes + (chunk.length - left_over);
    records->left_over.length = left_over;
    block->first = chunk.bytes;
    block->count = chunk.length / records->record_bytes;
    if (block->count != 0) return 1;
  }
  return 0;
}

typedef struct hostmap_text {
  const hostmap_source *source;
  hostmap_span ahead; /* shown but not returned yet */
  size_t scanned;     /* how many bytes of it are known not to be delimiters */
  int skip_empty;
  /* Whether the last record lacks its delimiter. Valid at the end. */
  int unterminated;
  unsigned char delimits[256];
} hostmap_text;

static inline hostmap_text hostmap_text_of(const hostmap_source *source, int skip_empty) {
  hostmap_text text;
  text.source = source;
  text.ahead.bytes = NULL;
  text.ahead.length = 0;
  text.scanned = 0;
  text.skip_empty = skip_empty;
  text.unterminated = 0;
  for (int byte = 0; byte < 256; byte++) text.delimits[byte] = 0;
  return text;
}

/*
 * Starts reading records that end at each `delimiter`, such as '\n'. Empty records count. Bytes
 * after the last delimiter are a record too.
 */
static inline hostmap_text hostmap_lines_of(const hostmap_source *source, char delimiter) {
  hostmap_text text = hostmap_text_of(source, 0);
  text.delimits[(unsigned char)delimiter] = 1;
  return text;
}

/* Starts reading words: runs of bytes for which `in_word` is not 0. It is called for all 256. */
static inline hostmap_text hostmap_words_of(const hostmap_source *source, int (*in_word)(unsigned char byte)) {
  hostmap_text text = hostmap_text_of(source, 1);
  for (int byte = 0; byte < 256; byte++) text.delimits[byte] = !in_word((unsigned char)byte);
  return text;
}

/* Gets the next record, without its delimiter. Returns 0 at the end. */
static inline int hostmap_text_next(hostmap_text *text, hostmap_span *record) {
  hostmap_span ahead = text->ahead;
  size_t scanned = text->scanned;
  for (;;) {
    while (scanned < ahead.length) {
      size_t length = scanned++;
      if (!text->delimits[ahead.bytes[length]]) continue;
      record->bytes = ahead.bytes;
      record->length = length;
      ahead.bytes += scanned;
      ahead.length -= scanned;
      scanned = 0;
      if (length != 0 || !text->skip_empty) {
        text->ahead = ahead;
        text->scanned = 0;
        return 1;
      }
    }
    if (!hostmap_chunk_next_keeping(text->source, ahead.length, &ahead)) break;
  }
  *record = ahead;
  text->ahead.length = 0;
  text->scanned = 0;
  if (record->length == 0) return 0;
  text->unterminated = 1;
  return 1;
}

#endif
