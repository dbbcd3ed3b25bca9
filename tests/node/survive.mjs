// A worker of the published SDK that lives for as long as the test wants, across restarts of the server. It
// offers `survive::echo`. Commands: `call {function_id, payload}` gives the result.
import { call, main, obey, worker } from './lib.mjs'

main(async () => {
  const survivor = worker()
  survivor.registerFunction('survive::echo', async (input) => ({ echo: input }))
  await obey({
    call: (request) => {
      const { function_id, payload } = JSON.parse(request)
      return call(survivor, function_id, payload)
    },
  })
})
