/*
 * The claim protocol: who holds a run, who may speak for it, and what of it can be lost.
 *
 * A script is one atomic step, as it is in Redis. A script's inline has the script's name and says what the script does to the
 * state that matters here; specifications, events, queues, priorities, pauses and schedules are left out.
 *
 *   here                           there
 *   -----------------------------  ----------------------------------------------------------------------
 *   submit_runs                    services/dispatcher/lua/submit_runs.lua
 *   claim_runs, read_room          services/dispatcher/lua/claim_runs.lua
 *   admit, assign                  shared/penstock/includes/admission.lua, shared/penstock/includes/assignment.lua
 *   report_runs, apply             services/dispatcher/lua/report_runs.lua
 *   announce_worker                services/dispatcher/lua/announce_worker.lua
 *   lose_worker                    services/dispatcher/lua/lose_worker.lua
 *   give_back                      shared/penstock/includes/claims.lua
 *   cancel_runs                    services/dispatcher/lua/cancel_runs.lua
 *   expire_cancelling              services/dispatcher/lua/expire_cancelling.lua
 *   stop_run, take_away            shared/penstock/includes/stopping.lua
 *   release_run, finish_run,
 *   requeue, retry_run, settle     shared/penstock/includes/slots.lua
 *   park (in admit), unpark        shared/penstock/includes/parking.lua
 *   move_run                       shared/penstock/includes/runs.lua
 *   proctype dispatcher            services/dispatcher/store.py, services/dispatcher/due.py: which script is followed by a claim
 *   proctype worker                shared/penstock/worker/hands.py: what a worker does with a claim
 *   proctype monitor               services/heartbeat_monitor/lua/apply_heartbeats.lua, .../expire_workers.lua: word to the dispatcher
 *
 * A token is derived from run and epoch and from what nobody can guess, so here it is there or not, and the epoch tells which.
 *
 * There are two surroundings, in which the same scripts run:
 *
 *   anything goes (default)  Every message that could ever be sent may arrive at any time, in any order, any number of times: any
 *                            report on any claim that a worker was ever given, losses and new lives of workers, cancellations. It
 *                            contains whatever dispatchers, workers, networks and the reclaiming of entries can do. Only the
 *                            epochs are bounded.
 *   -DSTREAM                 Entries lie in a stream and are read in any order. A dispatcher may die between a script and the
 *                            claim that follows, or before it acknowledges: the entry is read again. Workers die, come back as a
 *                            new process, are declared lost while they live, and hand back; at most FAULTS such things happen.
 *                            Nothing here goes on for ever, so a run that does not end shows at the standstill.
 *
 * The invariants are asserted after every script; -DONLY=<its name> asserts one of them alone. The planted defects:
 *
 *   NO_FENCE             reports are applied whatever their token, epoch and worker
 *   CHECK_THEN_ACT       the room is read in one step and used in the next
 *   COUNTERS             holders are counted up and down instead of being a set of runs
 *   RELEASE_FIRST        a report gives the slots back before it is asked whether the run has ended already
 *   NO_TERMINAL_CHECK    a report is applied although the run has ended
 *   KNOWN_RUN_ACCEPTED   a submission that comes again is not recognised
 *   NO_SEQ               an old announcement or loss of a worker is applied
 *   NO_GIVE_BACK         a new life of a worker leaves the claims of the old one
 *   ACKNOWLEDGE_FIRST    an entry is acknowledged before its script runs
 *   SLOTS_NOT_OFFERED    a dispatcher that dies after a cancellation leaves nothing that tells others of the free slots
 */

#define WORKERS 2
#ifndef RUNS
#define RUNS 2
#endif
#ifndef DISPATCHERS
#define DISPATCHERS 1        /* one without anything in mind between its steps stands for any number */
#endif
#ifndef POOL_LIMIT
#define POOL_LIMIT 1
#endif
#ifndef DEPLOYED             /* so many of the runs are a deployment's */
#define DEPLOYED 0
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
#define LIVES 2              /* processes that bear a worker's name, one after the other */
#define WORDS 6              /* announcements and losses of one worker */

/* Names of the invariants, for ONLY. */
#define LIMITS 1
#define ONE_END 2
#define ONE_HOLDER 3
#define FENCE 4
#define GIVEN_BACK_ONCE 5
#define NEVER_FORGOTTEN 6

#ifdef ONLY
#define holds(name, condition) assert(ONLY != name || (condition))
#else
#define holds(name, condition) assert(condition)
#endif

mtype = { SCHEDULED, PENDING, RUNNING, CANCELLING, COMPLETED, FAILED, CRASHED, CANCELLED };
mtype = { CRASH, REQUEUE, KEEP };
mtype = { ANNOUNCE, LOSE };

#define is_terminal(state_) (state_ == COMPLETED || state_ == FAILED || state_ == CRASHED || state_ == CANCELLED)
#define is_in_flight(state_) (state_ == PENDING || state_ == RUNNING || state_ == CANCELLING)

typedef Run {
	bool accepted;           /* run:<id> exists */
	mtype state;
	bool waiting;            /* is in waiting:<queue> */
	bool parked;             /* is in parked:<queue>/<deployment> */
	bool pool_in_flight;     /* is in pool_in_flight:<pool> */
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
	bool slots_in_flight[RUNS];
	byte inbox[RUNS];        /* epoch of an assignment not yet read, 0 for none */
	byte inbox_boot[RUNS];
	int had                  /* not in Redis: claims it was ever given, see claim_bit */
};

Run runs[RUNS];
Worker slots[WORKERS];
mtype on_worker_lost;        /* the pool's policy */
bool due;                    /* the pool is in `due`: the clock of every dispatcher looks at it */
short pool_counter, deployment_counter;

/* Scratch inside one step, nought between steps. */
byte r_, w_, epoch_, boot_, i_, taken_, wait_, free_;
short room_, most_;
mtype said_, fate_;
bool stale_, touched_, freed_, force_, deployment_freed_;

inline tidy() {
	d_step {
		r_ = 0; w_ = 0; epoch_ = 0; boot_ = 0; i_ = 0; taken_ = 0; wait_ = 0; free_ = 0; room_ = 0; most_ = 0;
		said_ = 0; fate_ = 0; stale_ = false; touched_ = false; freed_ = false; force_ = false; deployment_freed_ = false
	}
}

#define claim_bit(r, epoch_no) (1 << ((r) * EPOCHS + (epoch_no) - 1))

#if RUNS == 3
#define sum(field) (runs[0].field + runs[1].field + runs[2].field)
#define held_by(w) (slots[w].slots_in_flight[0] + slots[w].slots_in_flight[1] + slots[w].slots_in_flight[2])
#else
#define sum(field) (runs[0].field + runs[1].field)
#define held_by(w) (slots[w].slots_in_flight[0] + slots[w].slots_in_flight[1])
#endif

#ifdef COUNTERS
#define pool_holders pool_counter
#define deployment_holders deployment_counter
#else
#define pool_holders sum(pool_in_flight)
#define deployment_holders sum(deployment_in_flight)
#endif

#if RUNS == 3
#define sum_in_flight (is_in_flight(runs[0].state) + is_in_flight(runs[1].state) + is_in_flight(runs[2].state))
#else
#define sum_in_flight (is_in_flight(runs[0].state) + is_in_flight(runs[1].state))
#endif
#if DEPLOYED == 0
#define sum_deployed_in_flight 0
#elif DEPLOYED == 1
#define sum_deployed_in_flight is_in_flight(runs[0].state)
#else
#define sum_deployed_in_flight (is_in_flight(runs[0].state) + is_in_flight(runs[1].state))
#endif

#if RUNS == 3
#define cancelling_bits ((runs[0].state == CANCELLING) + (runs[1].state == CANCELLING) * 2 + (runs[2].state == CANCELLING) * 4)
#else
#define cancelling_bits ((runs[0].state == CANCELLING) + (runs[1].state == CANCELLING) * 2)
#endif

/* Any number below n; any bit that is set. */
inline choose(x, n) { x = 0; do :: x + 1 < n -> x++ :: break od }
inline choose_bit(x, mask) { x = 0; do :: ((mask) >> x) & 1 -> break :: ((mask) >> (x + 1)) != 0 -> x++ od }

/* ------------------------------------------------------------------------------------------------ what a run goes through */

inline move_run(r, to) {
	holds(ONE_END, !is_terminal(runs[r].state));
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

inline unpark() {
	most_ = DEPLOYMENT_LIMIT - deployment_holders;
	i_ = 0;
	do
	:: i_ < RUNS ->
		if
		:: most_ > 0 && runs[i_].parked -> runs[i_].parked = false; runs[i_].waiting = true; due = true; most_--
		:: else
		fi;
		i_++
	:: else -> break
	od
}

inline settle() {
	if :: deployment_freed_ -> unpark() :: else fi;
	deployment_freed_ = false
}

/* After every script. */
inline look_at_everything() {
	d_step {
	holds(LIMITS, sum_in_flight <= POOL_LIMIT);
	holds(LIMITS, sum_deployed_in_flight <= DEPLOYMENT_LIMIT);
	holds(GIVEN_BACK_ONCE, pool_holders == sum_in_flight);
	holds(GIVEN_BACK_ONCE, deployment_holders == sum_deployed_in_flight);
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
	:: else -> runs[r].accepted = true; runs[r].waiting = true
	fi;
	look_at_everything()
}

inline assign(r, w) {
	runs[r].waiting = false;
	move_run(r, PENDING);
	runs[r].pool_in_flight = true;
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
	slots[w].had = slots[w].had | claim_bit(r, runs[r].epoch);
#endif
	holds(LIMITS, held_by(w) <= slots[w].slots)
}

inline admit(r, w) {
	if
	:: r < DEPLOYED && deployment_holders >= DEPLOYMENT_LIMIT -> runs[r].waiting = false; runs[r].parked = true
	:: else -> assign(r, w); room_--
	fi
}

inline read_room() { room_ = POOL_LIMIT - pool_holders }

/* Which run goes first is decided by priority and time, and which worker takes it by its free slots: any of them may be the one. */
inline claim_runs() {
	do
	:: d_step {
			wait_ = 0; free_ = 0; i_ = 0;
			do
			:: i_ < RUNS -> wait_ = wait_ | ((runs[i_].waiting && runs[i_].epoch < EPOCHS) << i_); i_++
			:: else -> break
			od;
			i_ = 0;
			do
			:: i_ < WORKERS -> free_ = free_ | ((held_by(i_) < slots[i_].slots) << i_); i_++
			:: else -> break
			od
		};
		if
		:: room_ > 0 && wait_ && free_ -> choose_bit(r_, wait_); choose_bit(w_, free_); admit(r_, w_)
		:: else -> break
		fi
	od;
	due = false;
	look_at_everything()
}

inline apply(r, said) {
	if
#ifndef NO_TERMINAL_CHECK
	:: is_terminal(runs[r].state)
#endif
	:: else ->
		if
		:: said == RUNNING || said == SCHEDULED && runs[r].state != CANCELLING ->
			if
			:: runs[r].state != PENDING
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

inline report_runs(w, r, epoch_no, said) {
	stale_ = !(runs[r].granted == epoch_no && runs[r].granted_to == w);
	touched_ = false;
	if
#ifndef NO_FENCE
	:: !(runs[r].token && runs[r].epoch == epoch_no && runs[r].worker == w)
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

inline give_back(w, living_boot) {
	taken_ = 0;
	do
	:: taken_ < RUNS ->
		if
		:: slots[w].slots_in_flight[taken_] && runs[taken_].boot != living_boot ->
			if
			:: runs[taken_].state == PENDING -> release_run(taken_); requeue(taken_)
			:: runs[taken_].state == CANCELLING -> release_run(taken_); finish_run(taken_, CANCELLED); forget_claim(taken_)
			:: runs[taken_].state == RUNNING && on_worker_lost == KEEP
			:: runs[taken_].state == RUNNING && on_worker_lost == REQUEUE && runs[taken_].run_count < MAX_ATTEMPTS ->
				release_run(taken_); requeue(taken_)
			:: runs[taken_].state == RUNNING && (on_worker_lost == CRASH ||
					on_worker_lost == REQUEUE && runs[taken_].run_count >= MAX_ATTEMPTS) ->
				release_run(taken_); retry_run(taken_, CRASHED); forget_claim(taken_)
			:: else
			fi
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
	od
}

#ifdef NO_SEQ
#define is_old(w, seq_no) false
#else
#define is_old(w, seq_no) (seq_no <= slots[w].seq)
#endif

#ifdef STREAM
#define applied_now(w, seq_no) slots[w].seq = seq_no
#else
#define applied_now(w, seq_no) skip
#endif

inline announce_worker(w, boot_no, seq_no) {
	if
	:: is_old(w, seq_no)
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
		slots[w].slots = SLOTS
	fi;
	look_at_everything()
}

inline lose_worker(w, boot_no, seq_no) {
	if
	:: is_old(w, seq_no)
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
inline offer_slots() {
#ifdef SLOTS_NOT_OFFERED
	skip
#else
	if :: freed_ -> due = true :: else fi
#endif
}

inline cancel_runs(r, force) {
	freed_ = false;
	if
	:: !runs[r].accepted || is_terminal(runs[r].state)
	:: else ->
		if
		:: runs[r].state == SCHEDULED -> runs[r].waiting = false; runs[r].parked = false; finish_run(r, CANCELLED)
		:: runs[r].state != SCHEDULED && !force -> stop_run(r)
		:: runs[r].state != SCHEDULED && force -> take_away(r)
		fi
	fi;
	settle();
	offer_slots();
	look_at_everything()
}

inline expire_cancelling(r) {
	freed_ = false;
	if :: runs[r].state == CANCELLING -> take_away(r) :: else fi;
	settle();
	offer_slots();
	look_at_everything()
}

inline begin_everything() {
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
	:: choose(w_, WORKERS);
		if
		:: slots[w_].had ->
			choose_bit(i_, slots[w_].had);
			r_ = i_ / EPOCHS;
			epoch_ = i_ % EPOCHS + 1;
			if
			:: said_ = RUNNING :: said_ = COMPLETED :: said_ = FAILED :: said_ = CANCELLED :: said_ = SCHEDULED
			fi;
			report_runs(w_, r_, epoch_, said_)
		:: else
		fi
	fi
}

proctype dispatcher() {
#ifdef CHECK_THEN_ACT
	short room;
#endif
	do
	:: atomic { take_any_message(); tidy() }
#ifdef CHECK_THEN_ACT
	:: atomic { read_room(); room = room_; tidy() };
		atomic { room_ = room; room = 0; claim_runs(); tidy() }
#else
	:: atomic { read_room(); claim_runs(); tidy() }
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

mtype = { SUBMIT_RUNS, REPORT_RUNS, CANCEL_RUNS, WORD };

#define KINDS 5
#define said_number(said) (said == RUNNING -> 0 : (said == COMPLETED -> 1 : (said == FAILED -> 2 : (said == CANCELLED -> 3 : 4))))
#define said_of(number) (number == 0 -> RUNNING : (number == 1 -> COMPLETED : (number == 2 -> FAILED : (number == 3 -> CANCELLED : SCHEDULED))))
#define report_bit(r, epoch_no, said) (1 << (((r) * EPOCHS + (epoch_no) - 1) * KINDS + said_number(said)))

/* Entries that lie in the stream, one bit each. */
byte submissions;            /* run */
byte cancellations;          /* run * 2 + force */
int reports[WORKERS];        /* see report_bit */
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

byte faults = FAULTS;        /* that may still happen */
bool calm;                   /* no more of them, and nobody is started any more */

inline put_back(kind_, a, b) {
	if
	:: kind_ == SUBMIT_RUNS -> submissions = submissions | (1 << b)
	:: kind_ == CANCEL_RUNS -> cancellations = cancellations | (1 << b)
	:: kind_ == REPORT_RUNS -> reports[a] = reports[a] | (1 << b)
	:: kind_ == WORD -> words[a] = words[a] | (1 << b)
	:: else
	fi
}

inline run_script(kind_, a, b) {
	look = true;
	if
	:: kind_ == SUBMIT_RUNS -> submit_runs(b)
	:: kind_ == CANCEL_RUNS -> r_ = b / 2; force_ = b % 2; cancel_runs(r_, force_); look = freed_
	:: kind_ == REPORT_RUNS ->
		r_ = (b / KINDS) / EPOCHS;
		epoch_ = (b / KINDS) % EPOCHS + 1;
		said_ = said_of(b % KINDS);
		report_runs(a, r_, epoch_, said_)
	:: kind_ == WORD && written[a].kind[b] == ANNOUNCE -> boot_ = written[a].boot[b]; announce_worker(a, boot_, b + 1)
	:: kind_ == WORD && written[a].kind[b] == LOSE -> boot_ = written[a].boot[b]; lose_worker(a, boot_, b + 1)
	fi
}

inline acknowledge(kind_, a, b) {
	if
	:: kind_ == WORD -> written[a].kind[b] = 0; written[a].boot[b] = 0
	:: else
	fi
}

inline claim() {
	if :: look -> read_room(); claim_runs() :: else fi
}

inline forget_entry() { kind = 0; a = 0; b = 0; look = false }

/* Reads, runs the script, claims, acknowledges. Dying, before the claim or after it, leaves the entry for whoever reads next.
 * What another dispatcher does between script and claim is found in the other surroundings; here a claim that comes at once
 * stands for one that comes later, so a dispatcher has nothing in mind between its steps and one stands for any number. */
proctype dispatcher() {
	mtype kind;              /* the entry in hand */
	byte a, b;
	bool look;               /* a claim follows */
end:
	do
	:: atomic {
			if
			:: submissions -> kind = SUBMIT_RUNS; choose_bit(b, submissions); submissions = submissions & ~(1 << b)
			:: cancellations -> kind = CANCEL_RUNS; choose_bit(b, cancellations); cancellations = cancellations & ~(1 << b)
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
			fi;
			forget_entry();
			tidy()
		}
	:: atomic { due -> read_room(); claim_runs(); tidy() }
	:: atomic {
			cancelling_bits ->
			choose_bit(r_, cancelling_bits);
			expire_cancelling(r_);
			if
			:: faults > 0 -> faults--
			:: read_room(); claim_runs()
			fi;
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
			alive[w] && slots[w].inbox[r] && slots[w].inbox_boot[r] == life[w] ->
			hands[w].held[r] = slots[w].inbox[r];
			hands[w].began[r] = false;
			slots[w].inbox[r] = 0;
			slots[w].inbox_boot[r] = 0
		}
	:: atomic { hands[w].held[r] && !hands[w].began[r] -> hands[w].began[r] = true; report(w, r, RUNNING) }
	:: atomic { hands[w].held[r] && !hands[w].began[r] && faults > 0 -> faults--; report(w, r, SCHEDULED); drop(w, r) }
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
			i_ = 0;
			do :: i_ < RUNS -> drop(w, i_); i_++ :: else -> break od;
			i_ = 0
		}
	:: atomic { !alive[w] && online[w] -> tell_dispatcher(w, LOSE); online[w] = false }
	:: atomic { !alive[w] && life[w] < LIVES && !calm -> alive[w] = true; life[w]++; tell_dispatcher(w, ANNOUNCE); online[w] = true }
	:: atomic { alive[w] && online[w] && faults > 0 -> faults--; tell_dispatcher(w, LOSE); online[w] = false }
	:: atomic { alive[w] && !online[w] -> tell_dispatcher(w, ANNOUNCE); online[w] = true }
	od
}

proctype storm() { atomic { faults = 0; calm = true } }

/* Nothing can happen any more: whatever was accepted has ended, and nobody holds anything. */
proctype standstill() {
	atomic {
		timeout ->
		i_ = 0;
		do
		:: i_ < RUNS -> assert(runs[i_].accepted && is_terminal(runs[i_].state)); i_++
		:: else -> break
		od;
		assert(pool_holders == 0 && held_by(0) == 0 && held_by(1) == 0)
	}
}

init {
	byte n;
	atomic {
		begin_everything();
		if :: on_worker_lost = CRASH :: on_worker_lost = REQUEUE fi;
		submissions = (1 << RUNS) - 1;
		if :: true :: cancellations = 1 :: cancellations = 2 fi;
		n = 0;
		do
		:: n < WORKERS ->
			life[n] = 1;
			alive[n] = true;
			run monitor(n);
			run worker(n, 0);
			run worker(n, 1);
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
