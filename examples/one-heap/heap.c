/*
 * The heap: the allocator of zig's C library as a module of its own. It grows the memory when it
 * needs to, and uses only what it grew itself, so that mappings stay where they are.
 */
#include <stdlib.h>

__attribute__((export_name("malloc"))) void *heap_malloc(size_t bytes) { return malloc(bytes); }
__attribute__((export_name("free"))) void heap_free(void *block) { free(block); }
__attribute__((export_name("aligned_alloc"))) void *heap_aligned(size_t align, size_t bytes) {
  return aligned_alloc(align, bytes);
}
