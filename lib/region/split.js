'use strict'

// Dividing a part of a region. Arguments were checked before.

/** At most `count` parts of about the same length, which begin at multiples of `align`. */
function splitPart({ start, end }, count, align) {
  const units = Math.ceil((end - start) / align)
  const parts = Math.min(count, units)
  const border = index =>
    index === parts ? end : start + Math.floor((units / parts) * index) * align
  return Array.from({ length: parts }, (_, index) => {
    const byteOffset = border(index)
    return { byteOffset, byteLength: border(index + 1) - byteOffset }
  })
}

module.exports = { splitPart }
