/*
 * The claim protocol: who holds a run, who may speak for it, and what of it can be lost.
 *
 * A script is one atomic step, as it is in Redis. A script's inline has the script's name and says what the script does to the
 * state that matters here. Left out are specifications, events, priorities, pauses, what is missed or collides, deletions, lives of
 * workers that have no name, and what Redis forgets, with the audits that find it; a pool has one queue, and of time there is only
 * what is ahead of a change.
 *
 *   here                           there
 *   -----------------------------  ----------------------------------------------------------------------
 *   submit_runs                    services/dispatcher/lua/submit_runs.lua
 *   claim_runs, read_room          services/dispatcher/lua/claim_runs.lua
 *   admit, void_run                shared/penstock/includes/admission.lua
 *   assign                         shared/penstock/includes/assignment.lua
 *   report_runs, apply             services/dispatcher/lua/report_runs.lua
 *   announce_worker                services/dispatcher/lua/announce_worker.lua
 *   lose_worker                    services/dispatcher/lua/lose_worker.lua
 *   drain_worker                   services/dispatcher/lua/drain_worker.lua
 *   tell_to_stop                   shared/penstock/includes/draining.lua
 *   give_back, take_back,
 *   disown_run, after_loss         shared/penstock/includes/claims.lua
 *   cancel_runs                    services/dispatcher/lua/cancel_runs.lua
 *   expire_cancelling              services/dispatcher/lua/expire_cancelling.lua
 *   recall_runs                    services/dispatcher/lua/recall_runs.lua
 *   void_runs                      services/dispatcher/lua/void_runs.lua
 *   unpark_runs                    services/dispatcher/lua/unpark_runs.lua
 *   stop_run, take_away,
 *   recall_run                     shared/penstock/includes/stopping.lua
 *   release_run, finish_run,
 *   requeue, retry_run, settle,
 *   offered                        shared/penstock/includes/slots.lua
 *   park, unpark, unpark_queue     shared/penstock/includes/parking.lua
 *   move_run                       shared/penstock/includes/runs.lua
 *   proctype dispatcher            services/dispatcher/store.py, services/dispatcher/due.py: which script is followed by a claim
 *   proctype worker                shared/penstock/worker/hands.py: what a worker does with a claim
 *   proctype monitor               services/heartbeat_monitor/lua/apply_heartbeats.lua, .../expire_workers.lua: word to the dispatcher
 *   proctype registry              services/pool_registry/lua/update_deployment.lua: the definition and word of it in one step
 *
 * A token is derived from run and epoch and from what nobody can guess, so here it is there or not, and the epoch tells which.
 *
 * There are two surroundings, in which the same scripts run:
 *
 *   anything goes (default)  Every message that could ever be sent may arrive at any time, in any order, any number of times: any
 *                            report on any claim that was ever given, by any worker; losses, drains and new lives of workers,
 *                            cancellations, changes of the deployment. It contains whatever dispatchers, workers, networks and the
 *                            reclaiming of entries can do. Only the epochs are bounded.
 *   -DSTREAM                 Entries lie in a stream and are read in any order. A dispatcher may die between a script and the
 *                            claim that follows, or before it acknowledges: the entry is read again. Workers die, come back as a
 *                            new process, are declared lost while they live, and hand back; at most FAULTS such things happen.
 *                            Nothing here goes on for ever, so a run that does not end shows at the standstill.
 *
 * -DDRAINS, -DREVISES and -DRELIMITS let workers be drained, schedules be changed, and the deployment's limit be changed (in a
 * stream: once each, the limit from none at all to what it is). -DMOVES_AWAY: the deployment goes to another partition instead.
 *
 * The invariants are asserted after every script; -DONLY=<its name> asserts one of them alone. The planted defects:
 *
 *   NO_FENCE             reports are applied whatever their token, epoch and worker
 *   NO_TOKEN             reports are applied whatever their token and epoch
 *   NO_WORKER            reports are applied whoever sends them
 *   NO_POOL_LIMIT, NO_QUEUE_LIMIT, NO_DEPLOYMENT_LIMIT, NO_SLOT_LIMIT   a claim does not look at that
 *   CHECK_THEN_ACT       the room is read in one step and used in the next
 *   COUNTERS             holders are counted up and down instead of being a set of runs
 *   RELEASE_FIRST        a report gives the slots back before it is asked whether the run has ended already
 *   NO_TERMINAL_CHECK    a report is applied although the run has ended
 *   CANCELS_THE_ENDED    a cancellation is applied although the run has ended
 *   NO_PENDING_CHECK     a report that a run begins, or is handed back, is applied whatever state it is in
 *   KNOWN_RUN_ACCEPTED   a submission that comes again is not recognised
 *   NO_STALE_CHECK       a submission that comes again after its run was voided is not recognised
 *   NO_VOID_CHECK        a claim hands out what a changed schedule would not make
 *   VOIDS_THE_BEGUN      a changed schedule voids what was handed out before
 *   RECALLS_THE_BEGUN    a changed schedule takes back what has run before
 *   NO_SEQ               an old announcement or loss of a worker is applied
 *   OLD_ANNOUNCEMENTS, OLD_LOSSES   one of the two
 *   NO_GIVE_BACK         a new life of a worker leaves the claims of the old one
 *   GIVES_BACK_ITS_OWN   a life of a worker that is announced takes its own claims back, too
 *   NO_DRAIN_CHECK       the slots of a worker that is drained are offered
 *   DRAINED_FOR_EVER     so are not those of its next life
 *   NOT_TOLD_AGAIN       a worker whose inbox was deleted is not told again to end
 *   CLAIMS_LEAVE_PARKED  a claim does not take back what is parked
 *   ENDS_LEAVE_PARKED    neither does a run that gives its slot back
 *   UNPARKS_IN_SILENCE   a pool is not told of what waits there again
 *   RECALLS_IN_SILENCE   nor of slots that a recall freed
 *   SLOTS_NOT_OFFERED    nor of slots that a cancellation freed
 *   ACKNOWLEDGE_FIRST    an entry is acknowledged before its script runs
 */

#define WORKERS 2
#ifndef RUNS
#define RUNS 2
#endif
#ifndef DISPATCHERS
#define DISPATCHERS 1        /* one without anything in mind between its steps stands for any number */
#endif
#ifndef POOLS                /* 2: each has one of the runs and one of the workers */
#define POOLS 1
#endif
#ifndef POOL_LIMIT           /* of each */
#define POOL_LIMIT 1
#endif
#ifndef QUEUE_LIMIT          /* of the only queue of a pool */
#define QUEUE_LIMIT POOL_LIMIT
#endif
#ifndef DEPLOYED             /* so many of the runs are a deployment's */
#define DEPLOYED 0
#endif
#ifndef PLANNED              /* so many of those were made by its schedule */
#define PLANNED 0
#endif
#ifndef DEPLOYMENT_LIMIT
#define DEPLOYMENT_LIMIT 1
#endif
#ifndef SLOTS                /* of each worker */
#define SLOTS 1
#endif
#ifndef EPOCHS               /* no run is handed out more often */
#define EPOCHS 2
#endif
#ifndef RETRIES
#define RETRIES 1
#endif
#ifndef FAULTS
#define FAULTS 1
#endif
#define MAX_ATTEMPTS 2
#ifndef LIVES                /* processes that bear a worker's name, one after the other */
#define LIVES 2
#endif
#define WORDS 6              /* announcements and losses of one worker */

/* Names of the invariants, for ONLY. */
#define LIMITS 1
#define ONE_END 2
#define ONE_HOLDER 3
#define FENCE 4
#define GIVEN_BACK_ONCE 5
#define NEVER_FORGOTTEN 6
#define MOVES 7
#define DRAINED 8
#define ITS_OWN 9
#define BARRIER 10
#define BEGUN 11
#define NOTHING_IDLE 12
#define ALL_ENDED 13
#define ALL_OFFERED 14

#ifdef ONLY
#define holds(name, condition) assert(ONLY != name || (condition))
#else
#define holds(name, condition) assert(condition)
#endif

mtype = { SCHEDULED, PENDING, RUNNING, CANCELLING, COMPLETED, FAILED, CRASHED, CANCELLED };
mtype = { CRASH, REQUEUE, KEEP };
mtype = { LOST };              /* a report: its worker does not know this claim */
mtype = { ANNOUNCE, LOSE };

#define is_terminal(state_) (state_ == COMPLETED || state_ == FAILED || state_ == CRASHED || state_ == CANCELLED)
#define is_in_flight(state_) (state_ == PENDING || state_ == RUNNING || state_ == CANCELLING)

typedef Run {
	bool accepted;           /* run:<id> exists */
	mtype state;
	bool waiting;            /* is in waiting:<queue> */
	bool parked;             /* is in parked:<queue>/<deployment> */
	bool pool_in_flight;     /* is in pool_in_flight:<pool> */
	bool queue_in_flight;
	bool deployment_in_flight;
	bool token;              /* run:<id> has one */
	byte epoch;
	byte worker;
	byte boot;
	byte run_count;
	byte retries;
	byte granted;            /* not in Redis: epoch of the claim that was handed out and not ended since, 0 for none */
	byte granted_to;         /* not in Redis: whose it is */
	bool ended               /* not in Redis: it has been in a terminal state */
};

typedef Worker {
	byte seq;                /* slots:<worker>: the last announcement or loss applied */
	byte boot;
	byte slots;
	byte draining;           /* the life that is being drained */
	bool slots_in_flight[RUNS];
	byte inbox[RUNS];        /* epoch of an assignment not yet read, 0 for none */
	byte inbox_boot[RUNS];
	byte inbox_stop          /* the life that is told to end, 0 for none */
};

Run runs[RUNS];
Worker slots[WORKERS];
mtype on_worker_lost;        /* the pool's policy */
byte due;                    /* bits of the pools in `due`: the clock of every dispatcher looks at them */
byte deployment_limit;
bool revised;                /* the schedule has changed since it made its runs, and all of them were ahead of that */
int given;                   /* not in Redis: claims that were ever given, see claim_bit */
short pool_counter, deployment_counter;

/* Scratch inside one step, nought between steps. */
byte r_, w_, epoch_, boot_, p_, i_, taken_, wait_, free_;
short room_, most_;
mtype said_, fate_;
bool stale_, touched_, freed_, force_, deployment_freed_;

inline tidy() {
	d_step {
		r_ = 0; w_ = 0; epoch_ = 0; boot_ = 0; p_ = 0; i_ = 0; taken_ = 0; wait_ = 0; free_ = 0; room_ = 0; most_ = 0;
		said_ = 0; fate_ = 0; stale_ = false; touched_ = false; freed_ = false; force_ = false; deployment_freed_ = false
	}
}

#define claim_bit(r, epoch_no) (1 << ((r) * EPOCHS + (epoch_no) - 1))

#if POOLS == 1
#define pool_of(number) 0
#else
#define pool_of(number) (number)   /* run 0 and worker 0 in the one, run 1 and worker 1 in the other */
#endif

#if RUNS == 3
#define sum(what) (what(0) + what(1) + what(2))
#define held_by(w) (slots[w].slots_in_flight[0] + slots[w].slots_in_flight[1] + slots[w].slots_in_flight[2])
#define holds_nothing(w) (!hands[w].held[0] && !hands[w].held[1] && !hands[w].held[2])
#define cancelling_bits (is_cancelling(0) + is_cancelling(1) * 2 + is_cancelling(2) * 4)
#elif RUNS == 2
#define sum(what) (what(0) + what(1))
#define held_by(w) (slots[w].slots_in_flight[0] + slots[w].slots_in_flight[1])
#define holds_nothing(w) (!hands[w].held[0] && !hands[w].held[1])
#define cancelling_bits (is_cancelling(0) + is_cancelling(1) * 2)
#else
#define sum(what) what(0)
#define held_by(w) slots[w].slots_in_flight[0]
#define holds_nothing(w) (!hands[w].held[0])
#define cancelling_bits is_cancelling(0)
#endif
#define is_cancelling(r) (runs[r].state == CANCELLING)

#define in_pool_0(r) (runs[r].pool_in_flight && pool_of(r) == 0)
#define in_pool_1(r) (runs[r].pool_in_flight && pool_of(r) == 1)
#define in_queue_0(r) (runs[r].queue_in_flight && pool_of(r) == 0)
#define in_queue_1(r) (runs[r].queue_in_flight && pool_of(r) == 1)
#define in_deployment(r) runs[r].deployment_in_flight
#define flies_in_0(r) (is_in_flight(runs[r].state) && pool_of(r) == 0)
#define flies_in_1(r) (is_in_flight(runs[r].state) && pool_of(r) == 1)
#define flies_deployed(r) (is_in_flight(runs[r].state) && r < DEPLOYED)

#ifdef COUNTERS
#define pool_holders(p) pool_counter
#define deployment_holders deployment_counter
#else
#define pool_holders(p) (p == 0 -> sum(in_pool_0) : sum(in_pool_1))
#define deployment_holders sum(in_deployment)
#endif
#define queue_holders(p) (p == 0 -> sum(in_queue_0) : sum(in_queue_1))
#define flying(p) (p == 0 -> sum(flies_in_0) : sum(flies_in_1))
#define deployed_flying sum(flies_deployed)

/* Any number below n; any bit that is set. */
inline choose(x, n) { x = 0; do :: x + 1 < n -> x++ :: break od }
inline choose_bit(x, mask) { x = 0; do :: ((mask) >> x) & 1 -> break :: ((mask) >> (x + 1)) != 0 -> x++ od }

/* ------------------------------------------------------------------------------------------------ what a run goes through */

inline move_run(r, to) {
	holds(ONE_END, !is_terminal(runs[r].state));
	/* A run begins once a claim, waits again only after a claim, and what is being cancelled only ends. */
	holds(MOVES, to != PENDING || runs[r].state == SCHEDULED);
	holds(MOVES, to != RUNNING || runs[r].state == PENDING);
	holds(MOVES, to != SCHEDULED || runs[r].state == PENDING || runs[r].state == RUNNING);
	holds(MOVES, runs[r].state != CANCELLING || is_terminal(to));
	if :: is_terminal(to) -> holds(ONE_END, !runs[r].ended); runs[r].ended = true :: else fi;
	runs[r].state = to;
	touched_ = true
}

inline release_run(r) {
#ifdef COUNTERS
	pool_counter = (pool_counter > -1 -> pool_counter - 1 : -1);
	if :: r < DEPLOYED -> deployment_counter = (deployment_counter > -1 -> deployment_counter - 1 : -1) :: else fi;
#endif
	runs[r].pool_in_flight = false;
	runs[r].queue_in_flight = false;
	runs[r].deployment_in_flight = false;
	if :: r < DEPLOYED -> deployment_freed_ = true :: else fi;
	slots[runs[r].worker].slots_in_flight[r] = false;
	runs[r].granted = 0;
	runs[r].granted_to = 0
}

inline finish_run(r, to) { move_run(r, to) }

/* What nobody reads any more; the epoch stays, for the fence. */
inline forget_claim(r) { runs[r].token = false; runs[r].worker = 0; runs[r].boot = 0 }

inline requeue(r) {
	move_run(r, SCHEDULED);
	forget_claim(r);
	runs[r].waiting = true
}

inline retry_run(r, otherwise) {
	if
	:: runs[r].retries > 0 -> runs[r].retries--; requeue(r)
	:: else -> finish_run(r, otherwise)
	fi
}

#define tell_pool(p) due = due | (1 << (p))

inline leave_queue(r) {
	runs[r].waiting = false;
	runs[r].parked = false;
	if :: r < DEPLOYED -> deployment_freed_ = true :: else fi
}

inline park(r) { runs[r].waiting = false; runs[r].parked = true }

/* In the queue of every pool as many as there is room for. */
inline unpark() {
	p_ = 0;
	do
	:: p_ < POOLS ->
		most_ = deployment_limit - deployment_holders;
		i_ = 0;
		do
		:: i_ < RUNS ->
			if
			:: most_ > 0 && runs[i_].parked && pool_of(i_) == p_ ->
				runs[i_].parked = false;
				runs[i_].waiting = true;
#ifndef UNPARKS_IN_SILENCE
				tell_pool(p_);
#endif
				most_--
			:: else
			fi;
			i_++
		:: else -> break
		od;
		p_++
	:: else -> break
	od;
	p_ = 0;
	i_ = 0
}

#ifdef CLAIMS_LEAVE_PARKED
#define is_parked_in_0(r) false
#define is_parked_in_1(r) false
#else
#define is_parked_in_0(r) (runs[r].parked && pool_of(r) == 0)
#define is_parked_in_1(r) (runs[r].parked && pool_of(r) == 1)
#endif

/* The same where a run is parked in the queue of this pool. */
inline unpark_queue(p) {
	if :: (p == 0 -> sum(is_parked_in_0) : sum(is_parked_in_1)) -> unpark() :: else fi
}

inline settle() {
#ifndef ENDS_LEAVE_PARKED
	if :: deployment_freed_ -> unpark() :: else fi;
#endif
	deployment_freed_ = false
}

/* After every script. */
inline look_at_everything() {
	d_step {
	holds(LIMITS, flying(0) <= POOL_LIMIT && flying(1) <= POOL_LIMIT);
	holds(LIMITS, flying(0) <= QUEUE_LIMIT && flying(1) <= QUEUE_LIMIT);
	holds(GIVEN_BACK_ONCE, pool_holders(0) == flying(0) && (POOLS == 1 || pool_holders(1) == flying(1)));
	holds(GIVEN_BACK_ONCE, queue_holders(0) == flying(0) && queue_holders(1) == flying(1));
	holds(GIVEN_BACK_ONCE, deployment_holders == deployed_flying);
	i_ = 0;
	do
	:: i_ < RUNS ->
		/* A run in flight is in exactly one worker's set, that of its claim; any other is in none. */
		holds(ONE_HOLDER, slots[0].slots_in_flight[i_] + slots[1].slots_in_flight[i_] == is_in_flight(runs[i_].state));
		holds(ONE_HOLDER, !is_in_flight(runs[i_].state) || slots[runs[i_].worker].slots_in_flight[i_]);
		/* Whatever is accepted waits, is set aside, is held by a claim that can be reported on, or has ended. */
		holds(NEVER_FORGOTTEN, !runs[i_].accepted || runs[i_].state != SCHEDULED || runs[i_].waiting + runs[i_].parked == 1);
		holds(NEVER_FORGOTTEN, runs[i_].state == SCHEDULED || !runs[i_].waiting && !runs[i_].parked);
		holds(NEVER_FORGOTTEN, !is_in_flight(runs[i_].state) ||
			runs[i_].token && runs[i_].granted == runs[i_].epoch && runs[i_].granted_to == runs[i_].worker);
		i_++
	:: else -> break
	od;
	i_ = 0
	}
}

/* ------------------------------------------------------------------------------------------------------------- the scripts */

inline submit_runs(r) {
	if
#ifndef KNOWN_RUN_ACCEPTED
	:: runs[r].accepted
#endif
#ifndef NO_STALE_CHECK
	:: !runs[r].accepted && r < PLANNED && revised
#endif
	:: else ->
		if
		:: !runs[r].accepted -> holds(ONE_END, !runs[r].ended); runs[r].state = SCHEDULED; runs[r].accepted = true
		:: else
		fi;
		runs[r].waiting = true
	fi;
	look_at_everything()
}

/* A run that was handed out once is more than a place in a preview. */
#define has_begun(r) (runs[r].epoch > 0)
#define is_void(r) (r < PLANNED && revised && !has_begun(r))

inline assign(r, w) {
	holds(DRAINED, slots[w].boot != slots[w].draining);
	holds(BARRIER, !(r < PLANNED && revised && !has_begun(r)));
	runs[r].waiting = false;
	move_run(r, PENDING);
	runs[r].pool_in_flight = true;
	runs[r].queue_in_flight = true;
	runs[r].deployment_in_flight = (r < DEPLOYED);
#ifdef COUNTERS
	pool_counter++;
	deployment_counter = deployment_counter + (r < DEPLOYED);
#endif
	slots[w].slots_in_flight[r] = true;
	runs[r].worker = w;
	runs[r].boot = slots[w].boot;
	runs[r].token = true;
	runs[r].epoch++;
	runs[r].granted = runs[r].epoch;
	runs[r].granted_to = w;
#ifdef STREAM
	slots[w].inbox[r] = runs[r].epoch;
	slots[w].inbox_boot[r] = slots[w].boot;
#else
	given = given | claim_bit(r, runs[r].epoch);
#endif
	holds(LIMITS, r >= DEPLOYED || deployed_flying <= deployment_limit);
	holds(LIMITS, held_by(w) <= slots[w].slots)
}

/* After its last event no record of it stays. */
inline void_run(r) {
	holds(BEGUN, runs[r].run_count == 0);
	leave_queue(r);
	move_run(r, CANCELLED);
	forget_claim(r);
	runs[r].accepted = false
}

inline admit(r, w) {
	if
#ifndef NO_VOID_CHECK
	:: is_void(r) -> void_run(r); settle()
#endif
#ifndef NO_DEPLOYMENT_LIMIT
	:: !is_void(r) && r < DEPLOYED && deployment_holders >= deployment_limit -> park(r)
#endif
	:: else -> assign(r, w); room_--
	fi
}

#ifdef NO_POOL_LIMIT
#define pool_room(p) RUNS
#else
#define pool_room(p) (POOL_LIMIT - pool_holders(p))
#endif
#ifdef NO_QUEUE_LIMIT
#define queue_room(p) RUNS
#else
#define queue_room(p) (QUEUE_LIMIT - queue_holders(p))
#endif

inline read_room(p) { room_ = (pool_room(p) < queue_room(p) -> pool_room(p) : queue_room(p)) }

/* Of a worker: what refresh_free leaves in pool_free:<pool>. */
#if defined(NO_DRAIN_CHECK)
#define is_drained(w) false
#elif defined(DRAINED_FOR_EVER)
#define is_drained(w) (slots[w].draining != 0)
#else
#define is_drained(w) (slots[w].draining == slots[w].boot)
#endif
#ifdef NO_SLOT_LIMIT
#define offered(w) (slots[w].slots > 0 && !is_drained(w))
#else
#define offered(w) (held_by(w) < slots[w].slots && !is_drained(w))
#endif

/* A run of the pool that waits or is parked and that nothing hinders, where most_ is the room of its deployment. */
#define could_go(r, p) ((runs[r].waiting || runs[r].parked) && pool_of(r) == p && runs[r].epoch < EPOCHS && \
	(r >= DEPLOYED || most_ > 0))
#define could_go_0(r) could_go(r, 0)
#define could_go_1(r) could_go(r, 1)

/* Which run goes first is decided by priority and time, and which worker takes it by its free slots: any of them may be the one. */
#define is_free_for(w, p) (pool_of(w) == p && offered(w))

inline claim_runs(p) {
	/* Where nobody is free nothing is looked at. */
	if :: room_ > 0 && (is_free_for(0, p) || is_free_for(1, p)) -> unpark_queue(p) :: else fi;
	do
	:: d_step {
			wait_ = 0; free_ = 0; i_ = 0;
			do
			:: i_ < RUNS -> wait_ = wait_ | ((runs[i_].waiting && pool_of(i_) == p && runs[i_].epoch < EPOCHS) << i_); i_++
			:: else -> break
			od;
			i_ = 0;
			do
			:: i_ < WORKERS -> free_ = free_ | (is_free_for(i_, p) << i_); i_++
			:: else -> break
			od
		};
		if
		:: room_ > 0 && wait_ && free_ -> choose_bit(r_, wait_); choose_bit(w_, free_); admit(r_, w_)
		:: else -> break
		fi
	od;
	due = due & ~(1 << p);
	most_ = deployment_limit - deployment_holders;
	holds(NOTHING_IDLE, room_ <= 0 || !free_ || (p == 0 -> sum(could_go_0) : sum(could_go_1)) == 0);
	look_at_everything()
}

inline after_loss(r, policy) {
	if
	:: runs[r].state == PENDING -> fate_ = REQUEUE
	:: runs[r].state == CANCELLING -> fate_ = CANCELLED
	:: runs[r].state == RUNNING && policy == KEEP -> fate_ = KEEP
	:: runs[r].state == RUNNING && policy == REQUEUE && runs[r].run_count < MAX_ATTEMPTS -> fate_ = REQUEUE
	:: else -> fate_ = CRASHED
	fi
}

inline take_back(r) {
	release_run(r);
	if
	:: fate_ == REQUEUE -> requeue(r)
	:: fate_ == CRASHED -> retry_run(r, CRASHED); forget_claim(r)
	:: fate_ == CANCELLED -> finish_run(r, CANCELLED); forget_claim(r)
	fi
}

/* Nothing is left that could outlive its worker. */
inline disown_run(r) { after_loss(r, (on_worker_lost == KEEP -> CRASH : on_worker_lost)); take_back(r) }

inline apply(r, said) {
	if
#ifndef NO_TERMINAL_CHECK
	:: is_terminal(runs[r].state)
#endif
	:: else ->
		if
		:: said == LOST -> disown_run(r)
		:: said == RUNNING || said == SCHEDULED && runs[r].state != CANCELLING ->
			if
#ifndef NO_PENDING_CHECK
			:: runs[r].state != PENDING
#endif
			:: else ->
				if
				:: said == RUNNING -> runs[r].run_count++; move_run(r, RUNNING)
				:: else -> release_run(r); requeue(r)
				fi
			fi
		:: else ->
			/* A terminal report may overtake RUNNING; only a run that was stopped may have had no start. */
			if
			:: runs[r].state == PENDING && said != CANCELLED -> runs[r].run_count++; move_run(r, RUNNING)
			:: else
			fi;
			if
			:: runs[r].state == CANCELLING && said != COMPLETED -> fate_ = CANCELLED
			:: else -> fate_ = said
			fi;
			release_run(r);
			if
			:: fate_ == FAILED || fate_ == CRASHED -> retry_run(r, fate_)
			:: else -> finish_run(r, fate_)
			fi
		fi
	fi
}

#ifdef NO_TOKEN
#define is_its_token(r, epoch_no) true
#else
#define is_its_token(r, epoch_no) (runs[r].token && runs[r].epoch == epoch_no)
#endif
#ifdef NO_WORKER
#define is_its_worker(r, w) true
#else
#define is_its_worker(r, w) (runs[r].worker == w)
#endif

inline report_runs(w, r, epoch_no, said) {
	stale_ = !(runs[r].granted == epoch_no && runs[r].granted_to == w);
	touched_ = false;
	if
#ifndef NO_FENCE
	:: !(is_its_token(r, epoch_no) && is_its_worker(r, w))
#endif
	:: else ->
#ifdef RELEASE_FIRST
		if :: said != RUNNING && !(said == SCHEDULED && runs[r].state != PENDING) -> release_run(r) :: else fi;
#endif
		apply(r, said)
	fi;
	holds(FENCE, !(stale_ && touched_));
	settle();
	look_at_everything()
}

#ifdef GIVES_BACK_ITS_OWN
#define is_of_another_life(r, living_boot) true
#else
#define is_of_another_life(r, living_boot) (runs[r].boot != living_boot)
#endif

inline give_back(w, living_boot) {
	taken_ = 0;
	do
	:: taken_ < RUNS ->
		if
		:: slots[w].slots_in_flight[taken_] && is_of_another_life(taken_, living_boot) ->
			holds(ITS_OWN, runs[taken_].boot != living_boot || runs[taken_].state == RUNNING && on_worker_lost == KEEP);
			after_loss(taken_, on_worker_lost);
			if :: fate_ != KEEP -> take_back(taken_) :: else fi
		:: else
		fi;
		taken_++
	:: else -> break
	od;
	settle()
}

inline delete_inbox(w) {
	i_ = 0;
	do
	:: i_ < RUNS -> slots[w].inbox[i_] = 0; slots[w].inbox_boot[i_] = 0; i_++
	:: else -> break
	od;
	slots[w].inbox_stop = 0
}

#if defined(NO_SEQ) || defined(OLD_ANNOUNCEMENTS)
#define is_old_announcement(w, seq_no) false
#else
#define is_old_announcement(w, seq_no) (seq_no <= slots[w].seq)
#endif
#if defined(NO_SEQ) || defined(OLD_LOSSES)
#define is_old_loss(w, seq_no) false
#else
#define is_old_loss(w, seq_no) (seq_no <= slots[w].seq)
#endif

#ifdef STREAM
#define applied_now(w, seq_no) slots[w].seq = seq_no
#else
#define applied_now(w, seq_no) skip
#endif

inline tell_to_stop(w) {
#ifdef STREAM
	if :: slots[w].draining == slots[w].boot -> slots[w].inbox_stop = slots[w].boot :: else fi
#else
	skip
#endif
}

inline announce_worker(w, boot_no, seq_no) {
	if
	:: is_old_announcement(w, seq_no)
	:: else ->
		if
		:: slots[w].boot != 0 && slots[w].boot != boot_no ->
			delete_inbox(w);
#ifndef NO_GIVE_BACK
			give_back(w, boot_no)
#endif
		:: else
		fi;
		applied_now(w, seq_no);
		slots[w].boot = boot_no;
		slots[w].slots = SLOTS;
#ifndef NOT_TOLD_AGAIN
		tell_to_stop(w)
#endif
	fi;
	look_at_everything()
}

/* Of a lost one there is a record, but no place among those that may be drained. */
inline drain_worker(w) {
	if
	:: slots[w].slots > 0 -> slots[w].draining = slots[w].boot; tell_to_stop(w)
	:: else
	fi;
	look_at_everything()
}

inline lose_worker(w, boot_no, seq_no) {
	if
	:: is_old_loss(w, seq_no)
	:: else ->
		applied_now(w, seq_no);
		slots[w].boot = boot_no;
		slots[w].slots = 0;
		delete_inbox(w);
		give_back(w, 0)
	fi;
	look_at_everything()
}

inline stop_run(r) {
	if :: runs[r].state != CANCELLING -> move_run(r, CANCELLING) :: else fi
}

inline take_away(r) { release_run(r); finish_run(r, CANCELLED); forget_claim(r); freed_ = true }

/* The due clock of every dispatcher hears of free slots, so nobody has to live on to use them. */
inline offer_slots(r) {
#ifdef SLOTS_NOT_OFFERED
	skip
#else
	if :: freed_ -> tell_pool(pool_of(r)) :: else fi
#endif
}

inline cancel_runs(r, force) {
	freed_ = false;
	if
	:: !runs[r].accepted
#ifndef CANCELS_THE_ENDED
	:: runs[r].accepted && is_terminal(runs[r].state)
#endif
	:: else ->
		if
		:: runs[r].state == SCHEDULED -> leave_queue(r); finish_run(r, CANCELLED)
		:: runs[r].state != SCHEDULED && !force -> stop_run(r)
		:: runs[r].state != SCHEDULED && force -> take_away(r)
		fi
	fi;
	settle();
	offer_slots(r);
	look_at_everything()
}

inline expire_cancelling(r) {
	freed_ = false;
	if :: runs[r].state == CANCELLING -> take_away(r) :: else fi;
	settle();
	offer_slots(r);
	look_at_everything()
}

#ifdef RECALLS_THE_BEGUN
#define may_be_recalled(r) true
#else
#define may_be_recalled(r) (runs[r].run_count == 0)
#endif
#ifdef VOIDS_THE_BEGUN
#define may_be_voided(r) true
#else
#define may_be_voided(r) (!has_begun(r))
#endif

inline recall_run(r) { release_run(r); freed_ = true }

/* Whether a run is due so soon that it is left to begin is a matter of time, so here either may be. */
inline recall_runs() {
	taken_ = 0;
	do
	:: taken_ < PLANNED ->
		if
		:: revised && runs[taken_].accepted && runs[taken_].state == PENDING && may_be_recalled(taken_) ->
			recall_run(taken_);
			void_run(taken_);
#ifndef RECALLS_IN_SILENCE
			tell_pool(pool_of(taken_))
#endif
		:: true
		fi;
		taken_++
	:: else -> break
	od;
	deployment_freed_ = false;
	look_at_everything()
}

inline void_runs() {
	taken_ = 0;
	do
	:: taken_ < PLANNED ->
		if
		:: revised && runs[taken_].accepted && runs[taken_].state == SCHEDULED && may_be_voided(taken_) -> void_run(taken_)
		:: else
		fi;
		taken_++
	:: else -> break
	od;
	deployment_freed_ = false;
	look_at_everything()
}

inline unpark_runs() { unpark(); look_at_everything() }

inline begin_everything() {
	deployment_limit = DEPLOYMENT_LIMIT;
	i_ = 0;
	do
	:: i_ < RUNS -> runs[i_].state = SCHEDULED; runs[i_].retries = RETRIES; i_++
	:: else -> break
	od;
	i_ = 0
}

#ifndef STREAM
/* =========================================================================================================== anything goes */

/* Whatever may arrive. */
inline take_any_message() {
	if
	:: choose(r_, RUNS); submit_runs(r_)
	:: choose(r_, RUNS); choose(i_, 2); force_ = i_; cancel_runs(r_, force_)
	:: choose(r_, RUNS); expire_cancelling(r_)
	:: choose(w_, WORKERS); choose(boot_, LIVES); announce_worker(w_, boot_ + 1, 1)
	:: choose(w_, WORKERS); lose_worker(w_, slots[w_].boot, 1)
#ifdef DRAINS
	:: choose(w_, WORKERS); drain_worker(w_)
#endif
#ifdef RELIMITS
	:: choose(i_, DEPLOYED + 1); deployment_limit = i_; i_ = 0
	:: unpark_runs()
#endif
#ifdef REVISES
	:: revised = true
	:: recall_runs()
	:: void_runs()
#endif
	:: given ->
		choose(w_, WORKERS);
		choose_bit(i_, given);
		r_ = i_ / EPOCHS;
		epoch_ = i_ % EPOCHS + 1;
		if
		:: said_ = RUNNING :: said_ = COMPLETED :: said_ = FAILED :: said_ = CANCELLED :: said_ = SCHEDULED :: said_ = LOST
		fi;
		report_runs(w_, r_, epoch_, said_)
	fi
}

proctype dispatcher() {
	byte p;
#ifdef CHECK_THEN_ACT
	short room;
#endif
	do
	:: atomic { take_any_message(); tidy() }
#ifdef CHECK_THEN_ACT
	:: atomic { read_room(0); room = room_; tidy() };
		atomic { room_ = room; room = 0; claim_runs(0); tidy() }
#else
	:: atomic { choose(p, POOLS); read_room(p); claim_runs(p); p = 0; tidy() }
#endif
	od
}

init {
	byte n;
	atomic {
		begin_everything();
		if :: on_worker_lost = CRASH :: on_worker_lost = REQUEUE :: on_worker_lost = KEEP fi;
		n = 0;
		do :: n < DISPATCHERS -> run dispatcher(); n++ :: else -> break od
	}
}

#else
/* ================================================================================================================ a stream */

mtype = { SUBMIT_RUNS, REPORT_RUNS, CANCEL_RUNS, DRAIN_WORKER, DEPLOYMENT_CHANGED, WORD };

#define KINDS 5
#define said_number(said) (said == RUNNING -> 0 : (said == COMPLETED -> 1 : (said == FAILED -> 2 : (said == CANCELLED -> 3 : 4))))
#define said_of(number) (number == 0 -> RUNNING : (number == 1 -> COMPLETED : (number == 2 -> FAILED : (number == 3 -> CANCELLED : SCHEDULED))))
#define report_bit(r, epoch_no, said) (1 << (((r) * EPOCHS + (epoch_no) - 1) * KINDS + said_number(said)))

/* Entries that lie in the stream, one bit each. */
byte submissions;            /* run */
byte cancellations;          /* run * 2 + force */
int reports[WORKERS];        /* see report_bit */
byte drains;                 /* worker */
bool changed;                /* the deployment */
byte words[WORKERS];         /* seq - 1 */
typedef Written { mtype kind[WORDS]; byte boot[WORDS] };
Written written[WORKERS];    /* what the words say */

/* What the monitor knows, and what lives. */
bool online[WORKERS];
bool alive[WORKERS];
byte life[WORKERS];
byte sent[WORKERS];          /* seq of the last word */
typedef Hands { byte held[RUNS]; bool began[RUNS] };
Hands hands[WORKERS];
bool ends[WORKERS];          /* it was told to */

byte faults = FAULTS;        /* that may still happen */
bool calm;                   /* no more of them, and nobody is started any more */

inline put_back(kind_, a, b) {
	if
	:: kind_ == SUBMIT_RUNS -> submissions = submissions | (1 << b)
	:: kind_ == CANCEL_RUNS -> cancellations = cancellations | (1 << b)
	:: kind_ == DRAIN_WORKER -> drains = drains | (1 << b)
	:: kind_ == DEPLOYMENT_CHANGED -> changed = true
	:: kind_ == REPORT_RUNS -> reports[a] = reports[a] | (1 << b)
	:: kind_ == WORD -> words[a] = words[a] | (1 << b)
	:: else
	fi
}

inline run_script(kind_, a, b) {
	look = true;
	if
	:: kind_ == SUBMIT_RUNS -> submit_runs(b); pool = pool_of(b)
	:: kind_ == CANCEL_RUNS -> r_ = b / 2; force_ = b % 2; cancel_runs(r_, force_); look = freed_; pool = pool_of(r_)
	:: kind_ == DRAIN_WORKER -> drain_worker(b); look = false
	/* Three scripts, one after the other. Of one that has gone nothing is claimed: what it leaves may be anywhere. */
	:: kind_ == DEPLOYMENT_CHANGED -> recall_runs(); void_runs(); unpark_runs(); pool = 0;
#ifdef MOVES_AWAY
		look = false
#endif
	:: kind_ == REPORT_RUNS ->
		r_ = (b / KINDS) / EPOCHS;
		epoch_ = (b / KINDS) % EPOCHS + 1;
		said_ = said_of(b % KINDS);
		report_runs(a, r_, epoch_, said_);
		pool = pool_of(a)
	:: kind_ == WORD && written[a].kind[b] == ANNOUNCE -> boot_ = written[a].boot[b]; announce_worker(a, boot_, b + 1); pool = pool_of(a)
	:: kind_ == WORD && written[a].kind[b] == LOSE -> boot_ = written[a].boot[b]; lose_worker(a, boot_, b + 1); pool = pool_of(a)
	fi
}

inline acknowledge(kind_, a, b) {
	if
	:: kind_ == WORD -> written[a].kind[b] = 0; written[a].boot[b] = 0
	:: else
	fi
}

inline claim() {
	if :: look -> read_room(pool); claim_runs(pool) :: else fi
}

inline forget_entry() { kind = 0; a = 0; b = 0; pool = 0; look = false }

/* Reads, runs the script, claims, acknowledges. Dying, before the claim or after it, leaves the entry for whoever reads next.
 * What another dispatcher does between script and claim is found in the other surroundings; here a claim that comes at once
 * stands for one that comes later, so a dispatcher has nothing in mind between its steps and one stands for any number. */
proctype dispatcher() {
	mtype kind;              /* the entry in hand */
	byte a, b;
	byte pool;
	bool look;               /* a claim follows */
end:
	do
	:: atomic {
			if
			:: submissions -> kind = SUBMIT_RUNS; choose_bit(b, submissions); submissions = submissions & ~(1 << b)
			:: cancellations -> kind = CANCEL_RUNS; choose_bit(b, cancellations); cancellations = cancellations & ~(1 << b)
			:: drains -> kind = DRAIN_WORKER; choose_bit(b, drains); drains = drains & ~(1 << b)
			:: changed -> kind = DEPLOYMENT_CHANGED; changed = false
			:: reports[0] -> kind = REPORT_RUNS; a = 0; choose_bit(b, reports[0]); reports[0] = reports[0] & ~(1 << b)
			:: reports[1] -> kind = REPORT_RUNS; a = 1; choose_bit(b, reports[1]); reports[1] = reports[1] & ~(1 << b)
			:: words[0] -> kind = WORD; a = 0; choose_bit(b, words[0]); words[0] = words[0] & ~(1 << b)
			:: words[1] -> kind = WORD; a = 1; choose_bit(b, words[1]); words[1] = words[1] & ~(1 << b)
			fi;
			if
#ifdef ACKNOWLEDGE_FIRST
			:: faults > 0 -> faults--
#endif
			:: run_script(kind, a, b); claim(); acknowledge(kind, a, b)
			:: faults > 0 -> faults--; run_script(kind, a, b); put_back(kind, a, b)
			:: faults > 0 -> faults--; run_script(kind, a, b); claim(); put_back(kind, a, b)
			:: faults > 0 && kind == DEPLOYMENT_CHANGED -> faults--; recall_runs(); put_back(kind, a, b)
			fi;
			forget_entry();
			tidy()
		}
	:: atomic { due -> choose_bit(pool, due); read_room(pool); claim_runs(pool); forget_entry(); tidy() }
	:: atomic {
			cancelling_bits ->
			choose_bit(r_, cancelling_bits);
			expire_cancelling(r_);
			if
			:: faults > 0 -> faults--
			:: pool = pool_of(r_); read_room(pool); claim_runs(pool)
			fi;
			forget_entry();
			tidy()
		}
	od
}

inline report(w, r, said) { reports[w] = reports[w] | report_bit(r, hands[w].held[r], said) }

inline drop(w, r) { hands[w].held[r] = 0; hands[w].began[r] = false }

/* One claim in a worker's hands; what it is to stop or holds no more it reads in the run's state instead of in its inbox. */
proctype worker(byte w; byte r) {
end:
	do
	:: atomic {
			alive[w] && !ends[w] && slots[w].inbox[r] && slots[w].inbox_boot[r] == life[w] ->
			hands[w].held[r] = slots[w].inbox[r];
			hands[w].began[r] = false;
			slots[w].inbox[r] = 0;
			slots[w].inbox_boot[r] = 0
		}
	:: atomic { hands[w].held[r] && !hands[w].began[r] && !ends[w] -> hands[w].began[r] = true; report(w, r, RUNNING) }
	:: atomic { hands[w].held[r] && !hands[w].began[r] && faults > 0 -> faults--; report(w, r, SCHEDULED); drop(w, r) }
	:: atomic { hands[w].held[r] && !hands[w].began[r] && ends[w] -> report(w, r, SCHEDULED); drop(w, r) }
	:: atomic { hands[w].began[r] -> report(w, r, COMPLETED); drop(w, r) }
	:: atomic { RETRIES > 0 && hands[w].began[r] -> report(w, r, FAILED); drop(w, r) }
	:: atomic {
			hands[w].held[r] && runs[r].state == CANCELLING && runs[r].epoch == hands[w].held[r] ->
			report(w, r, CANCELLED); drop(w, r)
		}
	/* What it is told not to hold any more it kills, and says nothing. */
	:: atomic { hands[w].held[r] && runs[r].granted != hands[w].held[r] -> drop(w, r) }
	od
}

inline tell_dispatcher(w, kind_) {
	assert(sent[w] < WORDS);
	written[w].kind[sent[w]] = kind_;
	written[w].boot[sent[w]] = life[w];
	words[w] = words[w] | (1 << sent[w]);
	sent[w]++
}

/* What becomes of a worker's process, and what the monitor makes of its heartbeats. */
proctype monitor(byte w) {
end:
	do
	:: atomic {
			alive[w] && faults > 0 ->
			faults--;
			alive[w] = false;
			ends[w] = false;
			i_ = 0;
			do :: i_ < RUNS -> drop(w, i_); i_++ :: else -> break od;
			i_ = 0
		}
	:: atomic { alive[w] && slots[w].inbox_stop -> ends[w] = (slots[w].inbox_stop == life[w]); slots[w].inbox_stop = 0 }
	/* What it has not read it leaves. */
	:: atomic { alive[w] && ends[w] && holds_nothing(w) -> alive[w] = false; ends[w] = false }
	:: atomic { !alive[w] && online[w] -> tell_dispatcher(w, LOSE); online[w] = false }
	:: atomic { !alive[w] && life[w] < LIVES && !calm -> alive[w] = true; life[w]++; tell_dispatcher(w, ANNOUNCE); online[w] = true }
	:: atomic { alive[w] && online[w] && faults > 0 -> faults--; tell_dispatcher(w, LOSE); online[w] = false }
	:: atomic { alive[w] && !online[w] -> tell_dispatcher(w, ANNOUNCE); online[w] = true }
	od
}

proctype storm() { atomic { faults = 0; calm = true } }

proctype registry() {
	atomic {
#ifdef REVISES
		revised = true;
#endif
#ifdef RELIMITS
		deployment_limit = DEPLOYMENT_LIMIT;
#endif
		changed = true
	}
}

proctype operator() { atomic { drains = 1 } }

#define lives_for(w, r) (alive[w] && pool_of(w) == pool_of(r))
/* Or voided, before or after it came. */
#define is_accepted_and_ended(r) (is_terminal(runs[r].state) || !runs[r].accepted && r < PLANNED && revised)

/* Nothing can happen any more: whatever was accepted has ended where there is a worker, nobody holds anything, and who lives may
 * be given work. */
proctype standstill() {
	atomic {
		timeout ->
		i_ = 0;
		do
		:: i_ < RUNS ->
			holds(ALL_ENDED, is_accepted_and_ended(i_) || !lives_for(0, i_) && !lives_for(1, i_));
			i_++
		:: else -> break
		od;
		holds(ALL_ENDED, pool_holders(0) + pool_holders(1) + held_by(0) + held_by(1) == 0);
		i_ = 0;
		do
		:: i_ < WORKERS -> holds(ALL_OFFERED, !alive[i_] || slots[i_].boot == life[i_] && offered(i_)); i_++
		:: else -> break
		od
	}
}

init {
	byte n;
	atomic {
		begin_everything();
		if :: on_worker_lost = CRASH :: on_worker_lost = REQUEUE fi;
		submissions = (1 << RUNS) - 1;
#ifndef NOT_CANCELLED
		if :: true :: cancellations = 1 :: cancellations = 2 fi;
#endif
#ifdef DRAINS
		run operator();
#endif
#if defined(REVISES) || defined(RELIMITS)
		run registry();
#endif
#ifdef RELIMITS
		deployment_limit = 0;
#endif
		n = 0;
		do
		:: n < WORKERS ->
			life[n] = 1;
			alive[n] = true;
			run monitor(n);
			run worker(n, 0);
#if RUNS >= 2
			run worker(n, 1);
#endif
#if RUNS == 3
			run worker(n, 2);
#endif
			n++
		:: else -> break
		od;
		n = 0;
		do :: n < DISPATCHERS -> run dispatcher(); n++ :: else -> break od;
		n = 0;
		run storm();
		run standstill()
	}
}
#endif
