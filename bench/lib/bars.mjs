// Draws what is compared as bars, in SVG, to scale: a bar that can't be seen says what it has to.
//
// Pictures are shown on white and on black, and an SVG can't know which. So they have no
// background, and colors with the same contrast on both, about 4.4 to 1.

import * as echarts from 'echarts'
import { formatQuantity } from './table.mjs'

const OURS = '#2f7fe0'
const OTHERS = '#8b929b'
const TEXT = '#767d86'
const FONT = 'system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'

const WIDTH = 860
const BAR = 30

function render(width, height, option) {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height })
  try {
    chart.setOption({
      animation: false,
      backgroundColor: 'transparent',
      textStyle: { fontFamily: FONT, color: TEXT },
      ...option
    })
    return `${chart.renderToSVGString()}\n`
  } finally {
    chart.dispose()
  }
}

const labelOf = ({ median, unit }) => formatQuantity(median, unit)

function axes(bars, gridIndex, fontSize) {
  return {
    x: {
      type: 'value',
      gridIndex,
      show: false,
      min: 0,
      max: Math.max(...bars.map(bar => bar.figure.median))
    },
    y: {
      type: 'category',
      gridIndex,
      inverse: true,
      data: bars.map(bar => bar.label),
      axisLine: { show: false },
      axisTick: { show: false },
      axisLabel: { fontSize, color: TEXT, interval: 0 }
    }
  }
}

const series = (bars, index, fontSize, barWidth) => ({
  type: 'bar',
  xAxisIndex: index,
  yAxisIndex: index,
  barWidth,
  barMinHeight: 2,
  data: bars.map(({ ours, figure }) => ({
    value: figure.median,
    itemStyle: { color: ours ? OURS : OTHERS, borderRadius: 2 },
    label: { color: ours ? OURS : TEXT, fontWeight: ours ? 'bold' : 'normal' }
  })),
  label: {
    show: true,
    position: 'right',
    fontSize,
    formatter: ({ dataIndex }) => labelOf(bars[dataIndex].figure)
  }
})

/** One figure of the page. */
export function drawBars({ bars, less }) {
  const { x, y } = axes(bars, 0, 14)
  return render(WIDTH, bars.length * BAR + 28, {
    grid: { left: 320, right: 110, top: 4, bottom: 24 },
    xAxis: x,
    yAxis: y,
    series: [series(bars, 0, 14, 16)],
    graphic: {
      type: 'text',
      right: 8,
      bottom: 2,
      style: {
        text: less ? 'less is better' : 'more is better',
        fill: TEXT,
        fontSize: 12,
        font: `12px ${FONT}`
      }
    }
  })
}

/** The picture of the README: what the package gives, in three pairs of bars. */
export function drawGlance(figures) {
  const bar = (id, wanted, label) => {
    const found = figures.find(figure => figure.id === id).bars.find(each => each.label === wanted)
    if (found === undefined) throw new Error(`figure ${id} has no bar "${wanted}"`)
    return { ...found, label }
  }
  const panels = [
    {
      title: 'Time to give a module 1 GiB',
      bars: [
        bar('hand-off', 'copied into a new memory', 'copied'),
        bar('hand-off', 'mapped', 'mapped')
      ]
    },
    {
      title: 'Memory for that 1 GiB',
      bars: [
        bar('memory', 'copied, 1 module', 'copied to 1 module'),
        bar('memory', 'mapped, 1,000 modules', 'mapped by 1,000 modules')
      ]
    },
    {
      title: 'Time to a clean instance of 64 MiB',
      bars: [bar('restore', 'a new Instance', 'made anew'), bar('restore', 'restore', 'restored')]
    }
  ]
  const height = 62
  const top = index => 42 + index * (height + 44)
  const all = panels.map(({ bars }, index) => axes(bars, index, 16))
  return render(WIDTH, top(panels.length) - 30, {
    title: panels.map(({ title }, index) => ({
      text: title,
      left: 16,
      top: top(index) - 32,
      textStyle: { fontSize: 18, fontWeight: 'bold', color: TEXT }
    })),
    grid: panels.map((_, index) => ({ left: 250, right: 110, top: top(index), height })),
    xAxis: all.map(({ x }) => x),
    yAxis: all.map(({ y }) => y),
    series: panels.map(({ bars }, index) => series(bars, index, 17, 20))
  })
}
