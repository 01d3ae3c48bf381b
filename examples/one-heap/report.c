/* The meters with the highest sums, as lines of text. */
#include <stdbool.h>
#include <stdint.h>

#include "programs.h"

enum { most_rows = 32, row_bytes = 80, digits = 20 };

/* Data of its own, and state, in the block that the loader gave it. */
static const char *const words[] = {"meter ", " used ", " Wh in ", " readings\n"};
static uint32_t reports;

static char *put(char *to, const char *text) {
  while (*text) *to++ = *text++;
  return to;
}

static char *put_number(char *to, uint64_t number) {
  char reversed[digits]; /* on the program's own stack */
  uint32_t length = 0;
  do reversed[length++] = (char)('0' + number % 10);
  while (number /= 10);
  while (length) *to++ = reversed[--length];
  return to;
}

static bool is_before(const group *a, const group *b) {
  return a->watt_hours != b->watt_hours ? a->watt_hours > b->watt_hours : a->meter < b->meter;
}

/* Text that ends with a zero; NULL if the heap is full. */
EXPORT(report)
char *report(const groups *table, uint32_t rows) {
  const group *top[most_rows];
  uint32_t found = 0;
  if (rows > most_rows) rows = most_rows;
  for (uint32_t i = 0; i < 1u << table->bits; i++) {
    const group *group = &table->groups[i];
    if (!group->count) continue;
    uint32_t place = found < rows ? found++ : rows;
    for (; place > 0 && is_before(group, top[place - 1]); place--)
      if (place < rows) top[place] = top[place - 1];
    if (place < rows) top[place] = group;
  }

  char *text = heap_malloc(rows * row_bytes + 1);
  if (!text) return 0;
  char *to = text;
  for (uint32_t i = 0; i < found; i++) {
    const uint64_t numbers[] = {top[i]->meter, top[i]->watt_hours, top[i]->count};
    for (uint32_t word = 0; word < 3; word++)
      to = put_number(put(to, words[word]), numbers[word]);
    to = put(to, words[3]);
  }
  *to = 0;
  reports++;
  return text;
}

EXPORT(reports)
uint32_t count_reports(void) { return reports; }

/* A bug: it writes where its caller says. */
EXPORT(stray)
void stray(uint32_t *at) { *at = 0xdeadbeef; }
