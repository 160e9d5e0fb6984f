'use strict'
// The gateway's rule: mail for one domain passes, to one backend; nobody relays elsewhere.
exports.register = function () {
    this.register_hook('rcpt', 'ours')
    this.register_hook('get_mx', 'backend')
}
exports.ours = function (next, connection, params) {
    if (params[0].host !== 'example.test') return next(DENY, 'relaying denied')
    // With a queue: what is "relayed" goes there.
    if ('@QUEUE@' === 'yes') connection.relaying = true
    next(OK)
}
exports.backend = function (next) {
    next(OK, { exchange: '127.0.0.1', port: @BACKEND_PORT@, priority: 0 })
}
