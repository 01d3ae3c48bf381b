/*
 * Reads what the host shows through a window of wasm-hostmap: chunk after chunk of a region of any
 * size, each in the module's own memory.
 *
 * One file to drop in. C99 or C++11, clang for wasm32 or wasm64, no libc. README.md beside it shows
 * it at work.
 *
 *   HOSTMAP_SOURCE(orders);            the host passes { orders: source.imports }
 *
 *   hostmap_chunk_next                                          chunks as the host cuts them
 *   hostmap_records_of, hostmap_records_next                    records of a fixed size, in blocks
 *   of whole ones hostmap_lines_of, hostmap_words_of, hostmap_text_next       records that end at a
 *   delimiter, one by one
 *
 * What a call hands out is read-only, and is gone at the next call for the same source: the host
 * shows other bytes at that place then. At the end the last bytes stay.
 *
 * A record that straddles chunks is whole all the same: its first bytes are shown again in front of
 * the next chunk. Only a record that the window can't hold ends in an error, which the host throws
 * through the module.
 */
#ifndef HOSTMAP_H
#define HOSTMAP_H

#include <stddef.h>

#ifdef __cplusplus
#define HOSTMAP_IMPORT extern "C"
#else
#define HOSTMAP_IMPORT extern
#endif

/*
 * What the host gives. Each source has a window of its own, so one module may read several at once.
 */
typedef struct hostmap_source {
  /* Shows the next chunk. Gives the bytes that are shown, 0 at the end. `keep`: how many of the
     last bytes shown are shown again in front of it. */
  size_t (*next)(size_t keep);
  /* The same, with as many kept as the host's `overlap` says. */
  size_t (*next_overlapping)(void);
  /* Where the first byte shown is. Its address and its offset in the region are equal modulo the
     host's page size. */
  const void *(*pointer)(void);
} hostmap_source;

#define HOSTMAP_FUNCTION(module, function) \
  HOSTMAP_IMPORT __attribute__((import_module(module), import_name(function)))

/* Imports the source `name` from the import module "name". At file scope; ends in a semicolon. */
#define HOSTMAP_SOURCE(name)                                                             \
  HOSTMAP_FUNCTION(#name, "next") size_t hostmap_source_##name##_next(size_t keep);      \
  HOSTMAP_FUNCTION(#name, "next") size_t hostmap_source_##name##_next_overlapping(void); \
  HOSTMAP_FUNCTION(#name, "pointer") const void *hostmap_source_##name##_pointer(void);  \
  static const hostmap_source name __attribute__((unused)) = {                           \
      hostmap_source_##name##_next,                                                      \
      hostmap_source_##name##_next_overlapping,                                          \
      hostmap_source_##name##_pointer,                                                   \
  }

/* Bytes that are shown. */
typedef struct hostmap_span {
  const unsigned char *bytes;
  size_t length;
} hostmap_span;

/* The next chunk. 0 at the end. */
static inline int hostmap_chunk_next(const hostmap_source *source, hostmap_span *chunk) {
  size_t shown = source->next_overlapping();
  if (shown == 0) return 0;
  chunk->bytes = (const unsigned char *)source->pointer();
  chunk->length = shown;
  return 1;
}

/* The next chunk, with the last `keep` bytes of this one in front of it. 0 at the end. */
static inline int hostmap_chunk_next_keeping(const hostmap_source *source, size_t keep, hostmap_span *chunk) {
  size_t shown = source->next(keep);
  if (shown == 0) return 0;
  chunk->bytes = (const unsigned char *)source->pointer();
  chunk->length = shown;
  return 1;
}

/* Whole records, one after the other. */
typedef struct hostmap_block {
  const void *first;
  size_t count; /* at least 1 */
} hostmap_block;

typedef struct hostmap_records {
  const hostmap_source *source;
  size_t record_bytes;
  /* The unfinished record behind the block: at the end, what is too short for a record. */
  hostmap_span left_over;
} hostmap_records;

/*
 * Records of `record_bytes` each, usually a struct's sizeof. They are aligned as in the region:
 * where the source starts at a multiple of the struct's alignment, so does each. Else pack the
 * struct, or copy it out with memcpy.
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
 * The next block, of at least one record. 0 at the end; `left_over` tells then what follows the
 * last whole record.
 */
static inline int hostmap_records_next(hostmap_records *records, hostmap_block *block) {
  hostmap_span chunk;
  /* A chunk may be shorter than a record. Then nothing is handed out, and all of it is kept. */
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
  hostmap_span ahead; /* shown, and not handed out yet */
  size_t scanned;     /* how many bytes of it are known to be no delimiters */
  int skip_empty;
  /* Whether the last record had no delimiter. Known at the end. */
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
 * Records that end at each `delimiter`, such as '\n'. Empty ones count; what follows the last
 * delimiter is one, unless it is empty.
 */
static inline hostmap_text hostmap_lines_of(const hostmap_source *source, char delimiter) {
  hostmap_text text = hostmap_text_of(source, 0);
  text.delimits[(unsigned char)delimiter] = 1;
  return text;
}

/* The longest runs of bytes for which `in_word` is not 0. It is asked once for each of the 256. */
static inline hostmap_text hostmap_words_of(const hostmap_source *source, int (*in_word)(unsigned char byte)) {
  hostmap_text text = hostmap_text_of(source, 1);
  for (int byte = 0; byte < 256; byte++) text.delimits[byte] = !in_word((unsigned char)byte);
  return text;
}

/* The next record, without its delimiter. 0 at the end. */
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
