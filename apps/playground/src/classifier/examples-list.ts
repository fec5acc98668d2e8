/** The list of examples, which the visitor edits, or pastes from a spreadsheet. */
import { parse } from 'csv-parse/browser/esm/sync'
import type { Example } from './examples.js'

interface Fields {
  readonly text: HTMLTextAreaElement
  readonly label: HTMLInputElement
}

export class ExamplesList {
  readonly #list: HTMLOListElement
  readonly #labels: HTMLDataListElement
  readonly #fields = new Map<HTMLLIElement, Fields>()

  /** @param labels gets the labels of all examples, which the label fields suggest */
  constructor(list: HTMLOListElement, labels: HTMLDataListElement) {
    this.#list = list
    this.#labels = labels
    list.addEventListener('input', ({ target }) => {
      if (isField(target)) target.setCustomValidity('')
      this.#suggestLabels()
    })
    list.addEventListener('paste', (event) => this.#paste(event))
  }

  /** Adds an example to the end. @returns its field of the text */
  add({ text, label }: Example): HTMLTextAreaElement {
    const item = document.createElement('li')
    const fields = { text: document.createElement('textarea'), label: document.createElement('input') }
    fields.text.rows = 2
    fields.text.value = text
    fields.text.ariaLabel = 'Text'
    fields.label.value = label
    fields.label.ariaLabel = 'Label'
    fields.label.placeholder = 'label'
    fields.label.setAttribute('list', this.#labels.id)
    const remove = document.createElement('button')
    remove.type = 'button'
    remove.textContent = '×'
    remove.ariaLabel = 'Remove'
    remove.addEventListener('click', () => this.#remove(item))
    item.append(fields.text, fields.label, remove)
    this.#list.append(item)
    this.#fields.set(item, fields)
    this.#suggestLabels()
    return fields.text
  }

  /** Removes empty examples, and returns the others. */
  read(): Example[] {
    for (const item of this.#fields.keys()) if (isEmpty(this.#read(item))) this.#remove(item)
    return Array.from(this.#fields.keys(), (item) => this.#read(item))
  }

  clear(): void {
    for (const item of this.#fields.keys()) this.#remove(item)
  }

  /** Shows a message at the example at this position: at its text if that is empty, otherwise at its label. */
  mark(row: number, message: string): void {
    const { text, label } = [...this.#fields.values()][row] ?? {}
    const wrong = text?.value.trim() === '' ? text : label
    wrong?.setCustomValidity(message)
    wrong?.reportValidity()
  }

  #read(item: HTMLLIElement): Example {
    const { text, label } = this.#fields.get(item) ?? {}
    return { text: text?.value.trim() ?? '', label: label?.value.trim() ?? '' }
  }

  #remove(item: HTMLLIElement): void {
    item.remove()
    this.#fields.delete(item)
    this.#suggestLabels()
  }

  #suggestLabels(): void {
    const labels = new Set(Array.from(this.#fields.keys(), (item) => this.#read(item).label))
    labels.delete('')
    this.#labels.replaceChildren(
      ...Array.from(labels, (label) => {
        const option = document.createElement('option')
        option.value = label
        return option
      }),
    )
  }

  /** Two columns of a spreadsheet are examples. Other text goes into the field, as usual. */
  #paste(event: ClipboardEvent): void {
    const text = event.clipboardData?.getData('text') ?? ''
    if (!text.includes('\t')) return
    event.preventDefault()
    const rows: string[][] = parse(text, {
      delimiter: '\t',
      relax_column_count: true,
      relax_quotes: true,
      skip_empty_lines: true,
    })
    this.read()
    for (const [text = '', label = ''] of rows) this.add({ text, label })
  }
}

const isField = (target: unknown): target is Fields[keyof Fields] =>
  target instanceof HTMLTextAreaElement || target instanceof HTMLInputElement

const isEmpty = ({ text, label }: Example): boolean => text === '' && label === ''
