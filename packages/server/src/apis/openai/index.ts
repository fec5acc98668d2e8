/** The routes of OpenAI's API. */
import { Hono } from 'hono'
import type { Engine } from '../../engine.js'
import type { ApiContext, ServerEnv } from '../context.js'
import { chatCompletions } from './chat-completions.js'
import { completions } from './completions.js'
import { embeddings } from './embeddings.js'
import { listModels, retrieveModel } from './models.js'

export function openai(engine: Engine, context: ApiContext): Hono<ServerEnv> {
  const app = new Hono<ServerEnv>()
  app.get('/v1/models', (c) => listModels(c, engine))
  // Names of the hub have a slash, which some clients do not escape.
  app.get('/v1/models/:model{.+}', (c) => retrieveModel(c, engine, c.req.param('model')))
  app.post('/v1/embeddings', (c) => embeddings(c, engine, context))
  app.post('/v1/chat/completions', (c) => chatCompletions(c, engine, context))
  app.post('/v1/completions', (c) => completions(c, engine, context))
  return app
}
