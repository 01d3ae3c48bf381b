// Draws a benchmark's results as an SVG with logarithmic axes.
//
// A plot has `name`, `title`, `xLabel` and `panels`, which stand side by side and share the axes. A
// panel has a `title` and `lines`, a line `label` and `points`, each of them two numbers: a count,
// or what `xUnit` says, and nanoseconds, or what `yUnit` says. Units are those of table.mjs. Lines
// without points are left out.

import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import * as echarts from 'echarts'
import { formatQuantity } from './table.mjs'

const WIDTH = 1000
const HEIGHT = 460
const AROUND = { top: 90, bottom: 50, left: 70, right: 45 }

/** Colors that people with red-green color blindness can distinguish. */
const COLORS = ['#0072b2', '#56b4e9', '#d55e00', '#cc79a7', '#009e73', '#e69f00']

/** Marks at powers of ten, or of two to the fourth for bytes. */
const baseOf = unit => (unit === 'bytes' ? 16 : 10)

function axesOf(panels, units) {
  const all = panels.flatMap(({ lines }) => lines.flatMap(({ points }) => points))
  const [x, y] = units.map((unit, index) => {
    const base = baseOf(unit)
    const exponents = all.map(point => Math.log(point[index]) / Math.log(base))
    // Correct a power that rounding just missed.
    const [from, to] = [
      Math.floor(Math.min(...exponents) + 1e-9),
      Math.ceil(Math.max(...exponents) - 1e-9)
    ]
    return { type: 'log', logBase: base, min: base ** from, max: base ** to }
  })
  return { x, y }
}

const formatter = unit => (unit ? value => formatQuantity(value, unit) : undefined)

/** Returns the SVG. */
export function drawPlot({ title, xLabel, xUnit, yUnit = 'ns', panels }) {
  const { x, y } = axesOf(panels, [xUnit, yUnit])
  const panelWidth = (WIDTH - AROUND.left) / panels.length
  const labels = [...new Set(panels.flatMap(({ lines }) => lines.map(({ label }) => label)))]
  const colorOf = label => COLORS[labels.indexOf(label) % COLORS.length]
  const chart = echarts.init(null, null, {
    renderer: 'svg',
    ssr: true,
    width: WIDTH,
    height: HEIGHT
  })
  try {
    chart.setOption({
      animation: false,
      backgroundColor: '#ffffff',
      textStyle: { fontFamily: 'sans-serif' },
      title: { text: title, left: 'center', top: 8, textStyle: { fontSize: 16 } },
      legend: { top: 36, data: labels, itemGap: 30 },
      grid: panels.map((_, index) => ({
        left: AROUND.left + index * panelWidth,
        width: panelWidth - AROUND.right,
        top: AROUND.top,
        bottom: AROUND.bottom
      })),
      xAxis: panels.map((panel, index) => ({
        ...x,
        gridIndex: index,
        axisLabel: { formatter: formatter(xUnit) },
        name: `${xLabel}, ${panel.title}`,
        nameLocation: 'middle',
        nameGap: 28
      })),
      yAxis: panels.map((_, index) => ({
        ...y,
        gridIndex: index,
        axisLabel: { show: index === 0, formatter: formatter(yUnit) }
      })),
      series: panels.flatMap(({ lines }, index) =>
        lines
          .filter(({ points }) => points.length > 0)
          .map(({ label, points }) => ({
            type: 'line',
            name: label,
            data: points,
            xAxisIndex: index,
            yAxisIndex: index,
            symbol: 'circle',
            symbolSize: 6,
            color: colorOf(label)
          }))
      )
    })
    return `${chart.renderToSVGString()}\n`
  } finally {
    chart.dispose()
  }
}

/** Writes bench/plots/NAME.svg and returns its path. */
export function writePlot(root, plot) {
  const file = path.join(root, 'bench', 'plots', `${plot.name}.svg`)
  mkdirSync(path.dirname(file), { recursive: true })
  writeFileSync(file, drawPlot(plot))
  return file
}
