# campaign-worker. Plain make; `make help` lists the targets.
# The caller's CFLAGS, CPPFLAGS, LDFLAGS and LDLIBS are added to ours, never replaced.
# VARIANT: release (default), test (failpoints compiled in), asan (AddressSanitizer, LeakSanitizer, UBSan; failpoints).

VARIANT ?= release
BUILD ?= build
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
CC ?= cc
PKG_CONFIG ?= pkg-config
OBJCOPY ?= objcopy
DOWNLOADS ?= $(BUILD)/downloads
LIBRDKAFKA = $(wildcard $(DOWNLOADS)/librdkafka/cksum)
PKG = PKG_CONFIG_PATH=$(DOWNLOADS)/librdkafka/lib/pkgconfig:$$PKG_CONFIG_PATH $(PKG_CONFIG)
PRODUCER_PACKAGES = rdkafka avro-c jansson libcrypto
PACKAGES = $(PRODUCER_PACKAGES) libpq

ifeq ($(VARIANT),release)
OUT = $(BUILD)
VARIANT_CFLAGS = -O2
else ifeq ($(VARIANT),test)
OUT = $(BUILD)/test
VARIANT_CFLAGS = -O1 -DFAILPOINTS
else ifeq ($(VARIANT),asan)
OUT = $(BUILD)/asan
VARIANT_CFLAGS = -O1 -DFAILPOINTS -fsanitize=address,undefined -fno-sanitize=alignment -fno-sanitize-recover=undefined -fno-omit-frame-pointer
VARIANT_LDFLAGS = -fsanitize=address,undefined
else
$(error VARIANT=$(VARIANT): release, test or asan)
endif

VERSION := 1.0.0
OUR_CPPFLAGS = -I. -D_GNU_SOURCE -DVERSION='"$(VERSION)"' $(patsubst -I%,-isystem %,$(shell $(PKG) --cflags $(PACKAGES) 2>/dev/null))
OUR_CFLAGS = -std=gnu11 -g -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -fstack-protector-strong \
	-fPIC -fvisibility=hidden $(VARIANT_CFLAGS) $(if $(CI),-Werror) -MMD -MP -pthread
libraries = $(shell $(PKG) --libs $1 2>/dev/null) -pthread

# An archive for each folder. A program links those that it needs, the highest first; each may use those behind it.
archive = $(OUT)/lib/$(subst /,-,$1).a
objects = $(patsubst %.c,$(OUT)/obj/%.o,$(filter-out %/main.c,$(wildcard $1/*.c)))
FOLDERS = worker worker/db worker/kafka producer schemas worker/base
WORKER_LIBS = $(foreach folder,worker worker/db worker/kafka schemas worker/base,$(call archive,$(folder)))
LIBRARY_LIBS = $(foreach folder,schemas worker/base,$(call archive,$(folder)))
ALL_LIBS = $(foreach folder,$(FOLDERS),$(call archive,$(folder)))

programs = $(patsubst %.c,$(OUT)/%,$(wildcard tests/$1/test_*.c))
UNIT = $(call programs,unit)
COMPONENT = $(call programs,component)
STORE = $(call programs,store)

# libcampaign: these modules, what they use of the folders below, and our own librdkafka where there is one. The rest of
# producer/ is the tool, which gets at nothing but the library's header and worker/base.
LIBRARY = $(patsubst %,$(OUT)/obj/producer/%.o,client connection error growth options pending publishing subscription texts)
TOOL = $(filter-out $(LIBRARY),$(call objects,producer)) $(OUT)/obj/producer/main.o
SONAME = libcampaign.so.$(firstword $(subst ., ,$(VERSION)))
RDKAFKA_REQUIRES = $(if $(RDKAFKA_ARCHIVE),$(shell $(PKG) --print-requires rdkafka),rdkafka)
RDKAFKA_ARCHIVE = $(filter %/librdkafka.a,$(shell $(PKG) --libs rdkafka 2>/dev/null))

all: $(OUT)/campaign-worker $(OUT)/campaign-producer $(OUT)/lib/$(SONAME) ## build the programs and libcampaign into build/

# Missing packages are named once, together.
$(OUT)/.packages: Makefile
	@missing=; for p in $(PACKAGES); do $(PKG) --exists $$p 2>/dev/null || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "missing libraries (pkg-config names):$$missing" >&2; \
	echo "on Debian: deploy/deps.sh build" >&2; exit 1; fi
	@$(PKG) --exists 'rdkafka >= 2.8' 'rdkafka < 2.10' 'avro-c >= 1.11' 'libpq >= 15' 'libcrypto >= 3' || \
	{ echo "wanted: rdkafka >= 2.8 and < 2.10 (deploy/librdkafka.sh says why), avro-c >= 1.11, libpq >= 15, libcrypto >= 3; on Debian: deploy/deps.sh build" >&2; exit 1; }
	@mkdir -p $(@D) && touch $@

$(OUT)/campaign-worker: $(OUT)/obj/worker/main.o $(WORKER_LIBS)
	$(CC) $(VARIANT_LDFLAGS) $(LDFLAGS) -o $@ $^ $(call libraries,$(PACKAGES)) $(LDLIBS)

$(OUT)/campaign-producer: $(TOOL) $(OUT)/lib/libcampaign.a $(call archive,worker/base)
	$(CC) $(VARIANT_LDFLAGS) $(LDFLAGS) -o $@ $^ $(call libraries,$(PRODUCER_PACKAGES)) $(LDLIBS)

# One object, in which no name is global but the header's: a program may have names like ours, and a librdkafka of its own.
$(OUT)/lib/campaign.o: $(LIBRARY) $(LIBRARY_LIBS) $(RDKAFKA_ARCHIVE)
	@mkdir -p $(@D)
	$(CC) -r -nostdlib -o $@ $^

$(OUT)/lib/libcampaign.a: $(OUT)/lib/campaign.o
	$(OBJCOPY) --localize-hidden $< $(OUT)/lib/libcampaign.o
	$(OBJCOPY) -w --keep-global-symbol='campaign_*' $(OUT)/lib/libcampaign.o
	@rm -f $@
	$(AR) rcs $@ $(OUT)/lib/libcampaign.o

$(OUT)/lib/$(SONAME): $(OUT)/lib/campaign.o producer/campaign.map
	$(CC) -shared $(VARIANT_LDFLAGS) $(LDFLAGS) -Wl,-soname,$(SONAME) -Wl,--version-script=producer/campaign.map -o $@ $< \
		$(call libraries,$(PRODUCER_PACKAGES)) $(LDLIBS)

$(call archive,worker): $(call objects,worker)
$(call archive,worker/db): $(call objects,worker/db) $(OUT)/obj/gen/sql.o $(OUT)/obj/gen/migrations.o
$(call archive,worker/kafka): $(call objects,worker/kafka)
$(call archive,producer): $(call objects,producer)
$(call archive,schemas): $(call objects,schemas) $(OUT)/obj/gen/schemas.o
$(call archive,worker/base): $(call objects,worker/base)
$(OUT)/lib/%.a:
	@mkdir -p $(@D) && rm -f $@
	$(AR) rcs $@ $^

$(OUT)/obj/gen/%.o: $(BUILD)/gen/%.c Makefile $(LIBRDKAFKA) | $(OUT)/.packages
	@mkdir -p $(@D)
	$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS) -c -o $@ $<

$(OUT)/obj/%.o: %.c Makefile $(LIBRDKAFKA) | $(OUT)/.packages
	@mkdir -p $(@D)
	$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS) -c -o $@ $<

# Texts that are built in: Avro schemas, the store's SQL, the migrations.
$(BUILD)/gen/schemas.c: schemas/embed.sh $(wildcard schemas/avro/*.avsc)
	@mkdir -p $(@D)
	sh schemas/embed.sh schemas >$@.new && mv $@.new $@

$(BUILD)/gen/sql.c: schemas/embed.sh $(wildcard worker/sql/*.sql)
	@mkdir -p $(@D)
	sh schemas/embed.sh sql >$@.new && mv $@.new $@

$(BUILD)/gen/migrations.c: schemas/embed.sh $(wildcard schemas/sql/[0-9]*.sql)
	@mkdir -p $(@D)
	sh schemas/embed.sh migrations >$@.new && mv $@.new $@

$(OUT)/tests/%: $(OUT)/obj/tests/%.o $(ALL_LIBS)
	@mkdir -p $(@D)
	$(CC) $(VARIANT_LDFLAGS) $(LDFLAGS) -o $@ $^ $(call libraries,$(PACKAGES) cmocka) $(LDLIBS)

# libFuzzer: bytes to the codec and to the field rules. Debian: clang, libclang-rt-dev. SECONDS=60
$(BUILD)/fuzz/fuzz_command: tests/fuzz/fuzz_command.c $(wildcard schemas/*.c worker/base/*.c) $(BUILD)/gen/schemas.c | $(OUT)/.packages
	@mkdir -p $(@D)
	clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize=alignment $(OUR_CPPFLAGS) -o $@ $^ $(call libraries,$(PACKAGES))

fuzz: $(BUILD)/fuzz/fuzz_command ## hostile bytes to the codec, for SECONDS=60
	LSAN_OPTIONS=use_unaligned=1 $< -max_total_time=$(or $(SECONDS),60) -max_len=65536

# A TCP proxy that the fault suite puts between the workers and their servers.
$(OUT)/fault-proxy: tests/fault/proxy.c Makefile
	@mkdir -p $(@D)
	$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) -MF $@.d $(CFLAGS) $(VARIANT_LDFLAGS) $(LDFLAGS) -o $@ $<

# A worker of a second operation (tests/operation), which shows that the rest does not know what its operation does.
OPERATION = $(patsubst %.c,$(OUT)/obj/%.o,$(wildcard tests/operation/*.c)) $(OUT)/obj/gen/archive.o
$(BUILD)/gen/archive.c: schemas/embed.sh tests/operation/command.avsc tests/operation/result.avsc tests/operation/execute.sql tests/operation/written.sql
	@mkdir -p $(@D)
	sh schemas/embed.sh texts tests/operation/archive.h archive $(filter-out schemas/embed.sh,$^) >$@.new && mv $@.new $@

$(OUT)/archive-worker: $(OPERATION) $(WORKER_LIBS)
	$(CC) $(VARIANT_LDFLAGS) $(LDFLAGS) -o $@ $^ $(call libraries,$(PACKAGES)) $(LDLIBS)

# What the benchmark measures with: commands, a publisher, readers, and the limits to compare with.
BENCH = $(patsubst tests/bench/%.c,$(OUT)/obj/tests/bench/%.o,$(wildcard tests/bench/*.c))
$(OUT)/bench-tool: $(BENCH) $(ALL_LIBS)
	$(CC) $(VARIANT_LDFLAGS) $(LDFLAGS) -o $@ $^ $(call libraries,$(PACKAGES)) -lm $(LDLIBS)

fuzz-object: $(OUT)/obj/tests/fuzz/fuzz_command.o
unit-programs: $(UNIT)
component-programs: $(COMPONENT)
store-programs: $(STORE)

unit: unit-programs ## the two-second loop: the tests that need no server
	@SUITES=unit DEPS=0 sh tests/run.sh

check: test ## the same as test

test: ## install what is missing, run every suite, end with a line that counts
	@sh tests/run.sh

# What the fault suite runs: workers with failpoints, the proxy, the release's tools.
fault-ready:
	@sh deploy/deps.sh build run test
	@$(MAKE) -s VARIANT=release all
	@$(MAKE) -s VARIANT=test all $(BUILD)/test/fault-proxy
	@sh deploy/kafka.sh fetch

fault: fault-ready ## the promises under faults: a pass through all of them; ROUNDS=600 for long (SEED, SEEDS, CELLS)
	@ROUNDS='$(ROUNDS)' SEED='$(SEED)' SEEDS='$(SEEDS)' CELLS='$(CELLS)' sh tests/python.sh tests/fault/fault.py

teeth: fault-ready ## workers with a rule of the protocol left out: the fault suite has to notice each
	@SEED='$(SEED)' MUTANTS='$(MUTANTS)' sh tests/python.sh tests/fault/teeth.py

# The second planter's rules come with universalmutator, as it is published.
UNIVERSAL = $(BUILD)/mutation/universalmutator
$(UNIVERSAL)/universalmutator/mutator.py:
	@pip3 -q install --no-deps --target $(UNIVERSAL) universalmutator==1.14.1

mutants-ready: fault-ready
	@sh deploy/deps.sh mutants
	@$(MAKE) -s $(UNIVERSAL)/universalmutator/mutator.py

mutants: mutants-ready ## one-line bugs are planted: which of them do the tests notice? An hour or two; QUICK=1, ONLY=REGEX, MUTANTS=80
	@MUTANTS='$(MUTANTS)' ONLY='$(ONLY)' SEED='$(SEED)' JOBS='$(JOBS)' QUICK='$(QUICK)' sh tests/python.sh tests/mutation/mutation.py

soak: fault-ready ## load with mild faults for MINUTES=2: memory, descriptors and threads stay flat
	@MINUTES='$(MINUTES)' SEED='$(SEED)' sh tests/python.sh tests/fault/soak.py

# What the benchmark runs: the released programs, its tool, the peer.
bench-ready:
	@sh deploy/deps.sh build run test bench
	@$(MAKE) -s VARIANT=release all $(BUILD)/bench-tool
	@sh deploy/kafka.sh fetch

bench: bench-ready ## speed, as ratios to what the same servers give without the worker: minutes; LONG=1 for all (ONLY, SEED)
	@LONG='$(LONG)' ONLY='$(ONLY)' SEED='$(SEED)' OTHER='$(OTHER)' sh tests/python.sh tests/bench/bench.py

model: ## the protocol, model-checked by spin, whole and with each rule left out (LONG=1)
	@sh deploy/deps.sh build test
	@LONG='$(LONG)' sh tests/model/run.sh

demo: ## a throw-away Kafka and PostgreSQL, the worker, and a command for every outcome (KEEP=1 leaves it running)
	@KEEP='$(KEEP)' DEPS='$(DEPS)' sh deploy/demo.sh

demo-stop: ## ends what `make demo KEEP=1` left running
	@sh deploy/demo.sh stop

install: all ## PREFIX, LIBDIR, DESTDIR
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include/campaign $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/share/campaign-worker
	install $(OUT)/campaign-worker $(OUT)/campaign-producer $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(OUT)/lib/libcampaign.a $(DESTDIR)$(LIBDIR)/
	install $(OUT)/lib/$(SONAME) $(DESTDIR)$(LIBDIR)/libcampaign.so.$(VERSION)
	ln -sf libcampaign.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libcampaign.so
	install -m 644 schemas/types.h $(DESTDIR)$(PREFIX)/include/campaign/
	sed 's|"schemas/types.h"|"types.h"|' producer/campaign.h >$(DESTDIR)$(PREFIX)/include/campaign/campaign.h
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@RDKAFKA@|$(RDKAFKA_REQUIRES)|' \
		producer/campaign.pc.in >$(DESTDIR)$(LIBDIR)/pkgconfig/campaign.pc
	cp -r schemas/avro schemas/sql schemas/examples schemas/asyncapi.yaml $(DESTDIR)$(PREFIX)/share/campaign-worker/

clean: ## removes build/ but for the downloads
	@if [ -d $(BUILD) ]; then find $(BUILD) -mindepth 1 -maxdepth 1 ! -name downloads -exec rm -rf {} +; fi

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

.PHONY: all unit check test fault fault-ready bench bench-ready teeth mutants mutants-ready soak model demo demo-stop install clean help fuzz fuzz-object unit-programs component-programs store-programs
.SECONDARY:
.DELETE_ON_ERROR:
-include $(shell find $(OUT)/obj -name "*.d" 2>/dev/null)
