/** Spam or not, on real mails: FourierFT, LoRA and the head alone, in a sentence encoder that Node trains. Figure 4 on a real task, and the trap of the learning rate. */
import { env } from 'onnxruntime-node'
import { colours } from './chart-frame.js'
import { errorBarChart, type Series } from './error-bar-chart.js'
import type { Experiment } from './experiment.js'
import { compareOnMails, type MailOutcome } from './fine-tuning/compare-on-mails.js'
import type { MailMethod } from './fine-tuning/mail-methods.js'
import { mailSettings } from './settings.js'
import { count, decimal, percentage } from './table-text.js'

const { headLearningRate } = mailSettings

type FourierMethod = Extract<MailMethod, { readonly kind: 'FourierFT' }>

export const fourierOnMails = (n: number, learningRate: number): FourierMethod => ({
  kind: 'FourierFT',
  n,
  learningRate,
  headLearningRate,
})

export const loraOnMails = (rank: number, learningRate: number): MailMethod => ({
  kind: 'LoRA',
  rank,
  learningRate,
  headLearningRate,
})

export const mails: Experiment = {
  name: 'mails',
  title: 'Spam or not: FourierFT, LoRA and the head alone, on real mails',
  seeds: mailSettings.seeds,
  start: async () => `onnxruntime-node ${env.versions.node}`,
  async run({ seeds, quick, folder }) {
    const fourier = mailSettings.fourier.map(({ n, learningRate }) => fourierOnMails(n, learningRate))
    const lora = mailSettings.lora.map(({ rank, learningRate }) => loraOnMails(rank, learningRate))
    const trapped = fourierOnMails(mailSettings.trap.n, mailSettings.trap.learningRate)
    const head: MailMethod = { kind: 'head only', headLearningRate: mailSettings.headOnlyLearningRate }
    const defaults: MailMethod = { kind: 'defaults' }
    const methods = [head, trapped, defaults, ...fourier, ...lora]
    const outcomes = await compareOnMails(methods, {
      seeds,
      quick,
      scoredOn: 'test',
      ...(!quick && { log: `${folder}/mails.jsonl` }),
    })
    const outcomesOf = (some: readonly MailMethod[]) => outcomes.filter(({ method }) => some.includes(method))
    const spreads = `mean and standard deviation of ${seeds.length} seeds`
    return {
      table: [
        [
          'method',
          'trained in the layers',
          'file, kB',
          'rate',
          'test accuracy',
          'test loss',
          'processor seconds',
        ],
        ...outcomes.map(({ method, parameters, bytes, accuracy, loss, seconds }) => [
          nameOf(method),
          count(parameters),
          count(Math.round(bytes / 1000)),
          rateOf(method),
          percentage(accuracy),
          decimal(loss),
          seconds.mean.toFixed(0),
        ]),
      ],
      figure: errorBarChart({
        title: 'Accuracy against trained parameters',
        subtitle: `MiniLM on real mails, query and value; ${spreads}`,
        xTitle: 'trained parameters, without the head',
        xScale: 'doubling',
        series: [
          seriesOf('FourierFT', colours.fourier, outcomesOf(fourier)),
          seriesOf('LoRA', colours.lora, outcomesOf(lora)),
        ],
        reference: { name: 'head only', accuracy: (outcomes[0] as MailOutcome).accuracy },
      }),
      moreFigures: {
        rate: errorBarChart({
          title: 'FourierFT with the learning rate of LoRA',
          subtitle: `MiniLM on real mails, n = ${mailSettings.trap.n}; ${spreads}`,
          xTitle: 'learning rate of the coefficients',
          xScale: 'names',
          series: outcomesOf([
            trapped,
            defaults,
            ...fourier.filter(({ n }) => n === mailSettings.trap.n),
          ]).map(({ method, accuracy }) => ({
            name: percentage(accuracy),
            colour: colours.fourier,
            points: [
              { x: `${rateOf(method)}${method.kind === 'defaults' ? ', the default' : ''}`, accuracy },
            ],
          })),
          reference: { name: 'head only', accuracy: (outcomes[0] as MailOutcome).accuracy },
        }),
      },
    }
  },
}

export function nameOf(method: MailMethod): string {
  if (method.kind === 'FourierFT') return `FourierFT, n = ${method.n}`
  if (method.kind === 'LoRA') return `LoRA, r = ${method.rank}`
  return method.kind === 'defaults' ? 'FourierFT, defaults of `train`' : 'head only'
}

export function rateOf(method: MailMethod): string {
  // 30/α, with PEFT's α of 150.
  if (method.kind === 'defaults') return '0.2'
  return String(method.kind === 'head only' ? method.headLearningRate : method.learningRate)
}

const seriesOf = (name: string, colour: string, outcomes: readonly MailOutcome[]): Series => ({
  name,
  colour,
  points: outcomes.map(({ parameters: x, accuracy }) => ({ x, accuracy })),
})
