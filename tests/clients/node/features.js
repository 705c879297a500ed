// What amqplib, an unmodified client, may rely on. Called with the name of one function.
'use strict'

const amqp = require('amqplib')
const assert = require('node:assert/strict')

const url = `amqp://guest:guest@${process.env.AMQP_HOST}:${process.env.AMQP_PORT}/%2f`

async function open () {
  const connection = await amqp.connect(url)
  const channel = await connection.createChannel()
  return { connection, channel }
}

async function queue (channel, args = {}, name = '') {
  const declared = await channel.assertQueue(name, { arguments: args, durable: false })
  return declared.queue
}

function publish (channel, name, ...bodies) {
  for (const body of bodies) channel.sendToQueue(name, Buffer.from(body))
}

async function bodies (channel, name) {
  const found = []
  for (;;) {
    const message = await channel.get(name, { noAck: true })
    if (!message) return found
    found.push(message.content.toString())
  }
}

// The first `count` deliveries of a consumer.
function take (channel, name, count, options = {}) {
  const found = []
  return new Promise((resolve, reject) => {
    const each = (message) => {
      if (message === null) return reject(new Error('cancelled'))
      found.push(message)
      if (found.length === count) resolve(found)
    }
    channel.consume(name, each, options).catch(reject)
  })
}

// How the broker closes the channel.
function closed (channel) {
  return new Promise((resolve) => channel.once('error', (error) => resolve([error.code, error.message])))
}

const scenarios = {
  async declare_publish_get () {
    const { channel } = await open()
    assert.deepEqual(await channel.assertQueue('orders'), { queue: 'orders', messageCount: 0, consumerCount: 0 })
    channel.sendToQueue('orders', Buffer.from('one'), { contentType: 'text/plain', persistent: true })
    publish(channel, 'orders', 'two')
    const message = await channel.get('orders')
    assert.equal(message.content.toString(), 'one')
    assert.equal(message.properties.contentType, 'text/plain')
    assert.equal(message.properties.deliveryMode, 2)
    assert.equal(message.fields.messageCount, 1)
    assert.equal(message.fields.redelivered, false)
    channel.ack(message)
    assert.deepEqual(await bodies(channel, 'orders'), ['two'])
    assert.equal(await channel.get('orders'), false)
  },

  async confirms () {
    const { connection } = await open()
    const channel = await connection.createConfirmChannel()
    const name = await queue(channel)
    publish(channel, name, ...Array.from({ length: 200 }, (_, n) => `${n}`))
    await channel.waitForConfirms()
    assert.equal((await channel.checkQueue(name)).messageCount, 200)
  },

  async refused_publishes_are_nacked () {
    const { connection } = await open()
    const channel = await connection.createConfirmChannel()
    const name = await queue(channel, { 'x-max-length': 1, 'x-overflow': 'reject-publish' })
    const answers = []
    for (let n = 0; n < 3; n++) {
      await new Promise((resolve) => channel.sendToQueue(name, Buffer.from('x'), {}, (error) => {
        answers.push(error === null ? 'ack' : 'nack')
        resolve()
      }))
    }
    assert.deepEqual(answers, ['ack', 'nack', 'nack'])
  },

  async mandatory_returns () {
    const { connection } = await open()
    const channel = await connection.createConfirmChannel()
    const returned = new Promise((resolve) => channel.once('return', resolve))
    channel.publish('amq.direct', 'nowhere', Buffer.from('x'), { mandatory: true })
    const message = await returned
    assert.equal(message.fields.replyCode, 312)
    assert.equal(message.fields.replyText, 'NO_ROUTE')
    assert.equal(message.content.toString(), 'x')
    await channel.waitForConfirms()
  },

  async consume_and_ack () {
    const { channel } = await open()
    const name = await queue(channel)
    publish(channel, name, '1', '2', '3')
    const found = await take(channel, name, 3)
    assert.deepEqual(found.map((m) => m.content.toString()), ['1', '2', '3'])
    channel.ackAll()
    assert.equal((await channel.checkQueue(name)).messageCount, 0)
  },

  async requeue_keeps_order () {
    const { channel } = await open()
    const name = await queue(channel)
    publish(channel, name, '1', '2', '3')
    const found = [await channel.get(name), await channel.get(name)]
    channel.nack(found[1], false, true)
    channel.reject(found[0], true)
    const again = [await channel.get(name), await channel.get(name), await channel.get(name)]
    assert.deepEqual(again.map((m) => [m.content.toString(), m.fields.redelivered]),
      [['1', true], ['2', true], ['3', false]])
  },

  async prefetch_per_consumer_and_per_channel () {
    const { connection } = await open()
    for (const [global, expected] of [[false, 4], [true, 2]]) {
      const channel = await connection.createChannel()
      const name = await queue(channel)
      await channel.prefetch(2, global)
      let deliveries = 0
      await channel.consume(name, () => deliveries++)
      await channel.consume(name, () => deliveries++)
      publish(channel, name, '1', '2', '3', '4', '5', '6')
      while ((await channel.checkQueue(name)).messageCount !== 6 - expected);
      assert.equal(deliveries, expected)
    }
  },

  async topic_routing () {
    const { channel } = await open()
    const [name, all] = [await queue(channel), await queue(channel)]
    await channel.bindQueue(name, 'amq.topic', '*.orders.#')
    await channel.bindQueue(all, 'amq.topic', '#')
    for (const key of ['eu.orders', 'eu.orders.new.big', 'orders', 'a.b.orders']) {
      channel.publish('amq.topic', key, Buffer.from(key))
    }
    assert.deepEqual(await bodies(channel, name), ['eu.orders', 'eu.orders.new.big'])
    assert.equal((await bodies(channel, all)).length, 4)
  },

  async headers_routing () {
    const { channel } = await open()
    const name = await queue(channel)
    await channel.bindQueue(name, 'amq.headers', '', { 'x-match': 'all', kind: 'report', size: 3 })
    channel.publish('amq.headers', '', Buffer.from('yes'), { headers: { kind: 'report', size: 3 } })
    channel.publish('amq.headers', '', Buffer.from('no'), { headers: { kind: 'report' } })
    assert.deepEqual(await bodies(channel, name), ['yes'])
  },

  async exchange_to_exchange () {
    const { channel } = await open()
    await channel.assertExchange('in', 'direct', { durable: false, autoDelete: true })
    await channel.assertExchange('out', 'fanout', { durable: false })
    const name = await queue(channel)
    await channel.bindExchange('out', 'in', 'key')
    await channel.bindQueue(name, 'out', '')
    channel.publish('in', 'key', Buffer.from('through'))
    assert.deepEqual(await bodies(channel, name), ['through'])
  },

  async alternate_exchange () {
    const { channel } = await open()
    await channel.assertExchange('lost', 'fanout', { durable: false })
    await channel.assertExchange('main', 'direct', { durable: false, alternateExchange: 'lost' })
    const name = await queue(channel)
    await channel.bindQueue(name, 'lost', '')
    channel.publish('main', 'nowhere', Buffer.from('x'))
    assert.deepEqual(await bodies(channel, name), ['x'])
  },

  async dead_letters () {
    const { channel } = await open()
    const dead = await queue(channel)
    const args = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead, 'x-message-ttl': 20 }
    const name = await queue(channel, args, 'short')
    publish(channel, name, 'x')
    const [message] = await take(channel, dead, 1)
    const [death] = message.properties.headers['x-death']
    assert.deepEqual([death.queue, death.reason, death.count, death.exchange, death['routing-keys']],
      ['short', 'expired', 1, '', ['short']])
    assert.equal(message.properties.headers['x-first-death-queue'], 'short')
  },

  async priorities_and_lengths () {
    const { channel } = await open()
    const name = await queue(channel, { 'x-max-priority': 3, 'x-max-length': 3 })
    for (const priority of [1, 3, 2, 0]) {
      channel.sendToQueue(name, Buffer.from(`${priority}`), { priority })
    }
    // The limit takes the head away, and the head is the highest priority.
    assert.deepEqual(await bodies(channel, name), ['2', '1', '0'])
  },

  async single_active_consumer () {
    const { connection, channel } = await open()
    const name = await queue(channel, { 'x-single-active-consumer': true })
    const other = await connection.createChannel()
    const found = []
    let wake = () => {}
    const listen = (channel, who) => channel.consume(name, (m) => { found.push(who + m.content); wake() }, { noAck: true })
    const { consumerTag } = await listen(channel, 'a')
    await listen(other, 'b')
    const reach = async (count) => { while (found.length < count) await new Promise((resolve) => { wake = resolve }) }
    publish(channel, name, '1', '2')
    await reach(2)
    await channel.cancel(consumerTag)
    publish(channel, name, '3')
    await reach(3)
    assert.deepEqual(found, ['a1', 'a2', 'b3'])
  },

  async direct_reply_to () {
    const { connection, channel } = await open()
    const server = await connection.createChannel()
    const name = await queue(server)
    const reply = take(channel, 'amq.rabbitmq.reply-to', 1, { noAck: true })
    const request = take(server, name, 1)
    channel.sendToQueue(name, Buffer.from('?'), { replyTo: 'amq.rabbitmq.reply-to' })
    const [asked] = await request
    server.sendToQueue(asked.properties.replyTo, Buffer.from('!'))
    const [answer] = await reply
    assert.equal(answer.content.toString(), '!')
  },

  async cancel_is_told () {
    const { connection, channel } = await open()
    const name = await queue(channel)
    const told = new Promise((resolve) => channel.consume(name, (m) => m === null && resolve()))
    const other = await connection.createChannel()
    await other.deleteQueue(name)
    await told
  },

  async a_refusal_costs_one_channel () {
    const { connection, channel } = await open()
    const end = closed(channel)
    await assert.rejects(channel.checkQueue('nosuch'), /NOT_FOUND - no queue 'nosuch' in vhost '\/'/)
    assert.equal((await end)[0], 404)
    const other = await connection.createChannel()
    await queue(other)
  },

  async exclusive_queues () {
    const mine = await open()
    const other = await open()
    await mine.channel.assertQueue('mine', { exclusive: true })
    const end = closed(other.channel)
    await assert.rejects(other.channel.checkQueue('mine'), /RESOURCE_LOCKED/)
    assert.equal((await end)[0], 405)
  },

  async large_bodies () {
    const { connection } = await open()
    const channel = await connection.createConfirmChannel()
    const name = await queue(channel)
    const body = Buffer.alloc(3_000_000, 'abcdefg')
    channel.sendToQueue(name, body)
    await channel.waitForConfirms()
    const message = await channel.get(name)
    assert.ok(message.content.equals(body))
  },

  async wrong_password () {
    await assert.rejects(amqp.connect(url.replace('guest:guest', 'guest:wrong')), /ACCESS_REFUSED/)
  }
}

module.exports = scenarios

if (require.main === module) {
  scenarios[process.argv[2]]().then(
    () => process.exit(0),
    (error) => { console.error(error); process.exit(1) }
  )
}
