// Formats times and counts for people.

export { formatBytes } from '../lib/support/bytes.js'

/** '64MiB' -> 67108864; NaN for anything else. */
export function parseBytes(text) {
  const [, number, prefix] = /^(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?|b|bytes)?$/i.exec(text) ?? []
  return Math.floor(Number(number) * 1024 ** ' kmgt'.indexOf(prefix?.toLowerCase() ?? ' '))
}

export function formatDuration(milliseconds) {
  if (milliseconds < 1) return `${threeDigits(milliseconds * 1000)} µs`
  if (milliseconds < 1000) return `${threeDigits(milliseconds)} ms`
  return `${threeDigits(milliseconds / 1000)} s`
}

/** 3120 -> '3,120 x'; 4.8 -> '4.8 x'; 0.04 -> '0.04 x' */
export function formatFactor(factor) {
  if (factor < 0.095) return `${factor.toPrecision(1)} x`
  return factor < 9.95 ? `${factor.toFixed(1)} x` : `${Math.round(factor).toLocaleString('en')} x`
}

/** 1, 'module' -> '1 module'; 4, 'module' -> '4 modules' */
export function formatCount(count, noun) {
  return `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`
}

/** A value of the data, with about five significant digits. */
export function formatValue(value) {
  const size = Math.abs(value)
  return value === 0 || (size >= 1e-3 && size < 1e6)
    ? String(Number(value.toPrecision(5)))
    : value.toExponential(2)
}

function threeDigits(number) {
  return number.toFixed(number < 9.995 ? 2 : number < 99.95 ? 1 : 0)
}
