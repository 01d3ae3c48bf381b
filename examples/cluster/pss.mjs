// How much memory a process has, in bytes: each page is divided among those who have it (PSS).

import { readFileSync } from 'node:fs'

export function pssOf(pid) {
  let dataset = 0
  let total = 0
  let isDataset = false
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'latin1').split('\n')) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isDataset = line.includes('/memfd:dataset-')
    const [, kibibytes] = /^Pss: +(\d+) kB$/.exec(line) ?? []
    if (kibibytes === undefined) continue
    total += Number(kibibytes) * 1024
    if (isDataset) dataset += Number(kibibytes) * 1024
  }
  return { dataset, besides: total - dataset }
}
