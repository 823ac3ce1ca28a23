# octet: `make help` lists the targets.
CC      ?= gcc
BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
DEBUG   ?= 0
WERROR  ?= 0
SANITIZE ?=
V       ?= 0

VERSION := $(shell sed -n 's/^\#define OCT_VERSION "\(.*\)"/\1/p' include/octet.h)
SONAME := liboctet.so.$(firstword $(subst ., ,$(VERSION)))

CFLAGS_BASE := -std=c11 -D_GNU_SOURCE -Iinclude -Isrc -Itests -fPIC -fvisibility=hidden -pthread -g \
    -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes \
    -ffp-contract=off -fno-math-errno -fno-trapping-math -MMD -MP
OPT := -O3
ifeq ($(DEBUG),1)
OPT := -O1
endif
ifeq ($(WERROR),1)
CFLAGS_BASE += -Werror
endif
ifneq ($(SANITIZE),)
CFLAGS_BASE += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer
LDFLAGS += -fsanitize=$(SANITIZE)
endif
CFLAGS_ALL = $(CFLAGS_BASE) $(OPT) $(CFLAGS)
LDLIBS := -ldl -ldnnl -lgomp -ljansson -lyaml -lz -lxxhash -lprotobuf-c -lplplot -lm -pthread
CLI_LIBS := -lpopt
TEST_LIBS := -lcriterion
# Criterion cannot run under the thread sanitizer; tests/plain has the part of it that tests use.
ifeq ($(SANITIZE),thread)
CFLAGS_BASE += -Itests/plain
TEST_LIBS :=
endif

# One folder of objects per compiler and set of flags.
KEY := $(shell printf '%s' '$(CC) $(CFLAGS_ALL) $(LDFLAGS)' | cksum | cut -d' ' -f1)
OBJ := $(BUILD)/obj-$(KEY)
# What is linked depends on this file, which changes when the flags do.
STAMP := $(BUILD)/flags
$(shell mkdir -p $(BUILD); [ "$$(cat $(STAMP) 2>/dev/null)" = '$(KEY)' ] || echo '$(KEY)' >$(STAMP))

# Instruction-set files carry their own flags; the portable ones are plain x86-64.
ISA_AVX512 := -mavx2 -mfma -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
ISA_VNNI   := $(ISA_AVX512) -mavx512vnni
ISA_AMX    := $(ISA_AVX512) -mamx-tile -mamx-int8

Q := @
ifeq ($(V),1)
Q :=
endif

LIB_SRC := $(filter-out src/cli/% src/cpu/vec_% src/cpu/tile_%,$(shell find src -name '*.c' | sort))
VEC_SRC := $(wildcard src/cpu/vec_*.c)
TILE_SRC := $(wildcard src/cpu/tile_*.c)
CLI_SRC := $(wildcard src/cli/*.c)
PROTO_SRC := $(wildcard src/train/*.proto)
PROTO_OBJ := $(PROTO_SRC:src/%.proto=$(OBJ)/src/%.pb-c.o)
TEST_SRC := $(wildcard tests/test_*.c)
CUDA_TEST_SRC := $(filter tests/test_cuda_% tests/test_gpusim_% tests/test_sim_%,$(TEST_SRC))
# fake_octet.c stands in for the library in the tests of the program, and nowhere else.
TEST_COMMON := $(filter-out tests/support/fake_octet.c tests/support/cli_run.c,$(wildcard tests/oracle/*.c tests/support/*.c))

LIB_OBJ := $(LIB_SRC:%.c=$(OBJ)/%.o) $(VEC_SRC:%.c=$(OBJ)/%.base.o) \
    $(VEC_SRC:%.c=$(OBJ)/%.avx512.o) $(TILE_SRC:%.c=$(OBJ)/%.o) $(PROTO_OBJ)
CLI_OBJ := $(CLI_SRC:%.c=$(OBJ)/%.o)
TEST_OBJ := $(TEST_SRC:%.c=$(OBJ)/%.o)
TEST_COMMON_OBJ := $(TEST_COMMON:%.c=$(OBJ)/%.o)
TEST_SUPPORT := $(BUILD)/libtestsupport.a

include cuda/cuda.mk

.DEFAULT_GOAL := all
.PHONY: all lib help clean
# Keep the objects of tests: they are the ends of chains of pattern rules.
.SECONDARY:
all: say-cuda $(BUILD)/octet $(BUILD)/liboctet.so $(PLUGINS) ## program, library, plug-ins

lib: $(BUILD)/liboctet.a $(BUILD)/liboctet.so ## liboctet.a and liboctet.so

help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

$(OBJ)/%.base.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -DOCT_VEC=base -c $< -o $@

$(OBJ)/%.avx512.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(ISA_AVX512) -DOCT_VEC=avx512 -c $< -o $@

$(OBJ)/src/cpu/tile_vnni.o: CFLAGS_ALL += $(ISA_VNNI)
$(OBJ)/src/cpu/tile_amx.o: CFLAGS_ALL += $(ISA_AMX)

$(OBJ)/src/train/%.pb-c.o: src/train/%.proto
	@mkdir -p $(@D)
	$(Q)protoc-c --proto_path=src/train --c_out=$(@D) $<
	$(Q)$(CC) $(CFLAGS_ALL) -I$(@D) -c $(@:.o=.c) -o $@

$(OBJ)/%.o: %.c | $(PROTO_OBJ)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -I$(OBJ)/src/train -c $< -o $@

$(BUILD)/liboctet.a: $(LIB_OBJ) $(STAMP)
	$(Q)rm -f $@ && ar rcs $@ $(LIB_OBJ)

$(BUILD)/liboctet.so: $(LIB_OBJ) $(STAMP)
	$(Q)$(CC) -shared -Wl,-soname,$(SONAME) $(LDFLAGS) $(LIB_OBJ) -o $@ $(LDLIBS)

# An archive: a program without Criterion (fuzz targets, the GPU self-test) takes what it calls.
$(TEST_SUPPORT): $(TEST_COMMON_OBJ) $(STAMP)
	$(Q)rm -f $@ && ar rcs $@ $(TEST_COMMON_OBJ)

$(BUILD)/octet: $(CLI_OBJ) $(BUILD)/liboctet.a
	$(Q)$(CC) $(LDFLAGS) $(CLI_OBJ) $(BUILD)/liboctet.a -o $@ $(CLI_LIBS) $(LDLIBS)

# The program's own tests run its commands against a stand-in of the library.
CLI_TEST_OBJ := $(patsubst %,$(OBJ)/tests/support/%.o,fake_octet cli_run) \
    $(filter-out $(OBJ)/src/cli/program.o,$(CLI_OBJ))
$(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_cli*.c)): \
    $(BUILD)/tests/%: $(OBJ)/tests/%.o $(CLI_TEST_OBJ) $(STAMP)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $< $(CLI_TEST_OBJ) -o $@ $(CLI_LIBS) -lyaml $(TEST_LIBS)

# Each tests/test_NAME.c is its own Criterion program.
$(BUILD)/tests/%: $(OBJ)/tests/%.o $(TEST_SUPPORT) $(BUILD)/liboctet.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $< $(TEST_SUPPORT) $(BUILD)/liboctet.a -o $@ $(TEST_LIBS) $(LDLIBS)

# This one runs the program.
$(BUILD)/tests/test_end_to_end: | $(BUILD)/octet

# Each tests/fuzz/fuzz_NAME.c is a libFuzzer program; the library is built anew with its coverage.
FUZZ := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: fuzz
fuzz: ## build/fuzz/fuzz_*: fuzz targets (clang); run them with -max_total_time=60
	$(Q)$(MAKE) BUILD=$(BUILD)/fuzz CC=clang SANITIZE=fuzzer-no-link,address,undefined \
	    CFLAGS='$(CFLAGS) -fno-sanitize-recover=all' $(FUZZ)

$(BUILD)/fuzz_%: $(OBJ)/tests/fuzz/fuzz_%.o $(TEST_SUPPORT) $(BUILD)/liboctet.a
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer $^ -o $@ $(LDLIBS)

# Tests. test_long_*.c take minutes; SLOW_TESTS are left out of `make check`.
SLOW_TESTS ?= test_rng test_graph test_sim_train test_cuda_faults test_cuda_traffic
LONG := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_long_*.c))
LONG_SKIPPED := $(if $(NVCC),,$(wildcard tests/test_long_sim_*.c))
LONG_BUILT := $(filter-out $(LONG_SKIPPED:tests/%.c=$(BUILD)/tests/%),$(LONG))
# These programs test the device sim as well: the same cases, the same bits.
SIM_TESTS ?= test_affine test_barrier test_codes test_compensation test_conv test_fixed test_norm test_norm_bwd test_ops test_stats test_pool test_shift
# The other PTX of the backend: all ops but the products, which test_cuda_conv runs there.
SIM_OTHER_SM ?= 75 90
SIM_OTHER := $(foreach sm,$(SIM_OTHER_SM),$(patsubst %,sim$(sm)=%,$(filter-out test_conv,$(SIM_TESTS))))
# Without nvcc the tests of the CUDA backend are counted as skipped.
SKIPPED := $(if $(NVCC),,$(filter-out tests/test_long_%,$(CUDA_TEST_SRC)) \
    $(SIM_TESTS:%=sim=tests/%.c) $(foreach t,$(SIM_OTHER),$(subst =,=tests/,$(t)).c))
TESTS ?= $(filter-out $(LONG),$(patsubst tests/%.c,$(BUILD)/tests/%,$(filter-out $(SKIPPED),\
    $(TEST_SRC))))
ON_SIM := $(if $(NVCC),$(SIM_TESTS:%=sim=$(BUILD)/tests/%) $(subst =,=$(BUILD)/tests/,$(SIM_OTHER)))
RUN_TESTS = OCT_SKIPPED='$(SKIPPED)' OCT_SKIPPED_WHY='$(WHY_NO_CUDA)' scripts/run-tests
SHORT := $(filter-out $(SLOW_TESTS:%=$(BUILD)/tests/%),$(TESTS))

.PHONY: selftest-programs selftest-sim-programs golden test check test-sim test-long asan tsan check-exports check-install check-example-scheme lint format size quickstart \
    bench-claims install uninstall

test: $(TESTS) $(if $(NVCC),$(BUILD)/liboctet-sim.so) ## every test but the long ones, then the sum
	$(Q)$(RUN_TESTS) $(TESTS) $(ON_SIM)

check: $(SHORT) ## the tests that take seconds
	$(Q)$(RUN_TESTS) $(SHORT)

test-sim: $(BUILD)/liboctet-sim.so $(SIM_TESTS:%=$(BUILD)/tests/%) ## the ops' tests on device sim
	$(Q)scripts/run-tests $(ON_SIM)

selftest-programs: all $(BUILD)/selftest-cuda $(SIM_TESTS:%=$(BUILD)/tests/%) ## for scripts/gpu_selftest

selftest-sim-programs: $(BUILD)/octet $(BUILD)/liboctet-sim.so $(BUILD)/selftest-sim ## for its --device sim

golden: $(BUILD)/selftest-sim ## tests/golden/*.json anew: from formulas and the CPU backend
	$(Q)for part in wrappers products training; do \
	    $(BUILD)/selftest-sim $$part --write --golden tests/golden || exit 1; done

test-long: $(BUILD)/octet $(TESTS) $(LONG_BUILT) ## all tests per instruction set, long ones, kill -9
	$(Q)for isa in c auto; do echo "OCT_ISA=$$isa"; OCT_ISA=$$isa scripts/run-tests $(TESTS) || exit 1; done
	$(Q)OCT_TEST_TIMEOUT=3600 OCT_SKIPPED='$(LONG_SKIPPED)' OCT_SKIPPED_WHY='$(WHY_NO_CUDA)' \
	    scripts/run-tests $(LONG_BUILT)
	$(Q)for precision in int8 fp32; do \
	    OCTET=$(BUILD)/octet scripts/kill-test --precision $$precision || exit 1; done

asan: ## the short tests under the address and undefined-behaviour sanitizers
	$(Q)ASAN_OPTIONS=allocator_may_return_null=1 \
	    $(MAKE) --no-print-directory BUILD=$(BUILD)/asan SANITIZE=address,undefined DEBUG=1 \
	    CUDA_BUILD=$(CUDA_BUILD) CFLAGS='$(CFLAGS) -fno-sanitize-recover=all' check

# The loader's tests, then the program itself: pool, loader and logs work together there.
TSAN_TESTS := $(BUILD)/tsan/tests/test_loader
TSAN_RUN = $(BUILD)/tsan/octet train --dataset synthetic --synthetic-images 96 --model resnet8 \
    --precision int8 --batch-size 16 --epochs 2 --threads 3 --workers 2
tsan: ## the loader's tests and a short int8 training under the thread sanitizer
	$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan SANITIZE=thread DEBUG=1 \
	    $(BUILD)/tsan/octet $(TSAN_TESTS)
	$(Q)for test in $(TSAN_TESTS); do $$test || exit 1; done
	$(Q)TSAN_OPTIONS=halt_on_error=1 $(TSAN_RUN) --isa auto
	$(Q)TSAN_OPTIONS=halt_on_error=1 $(TSAN_RUN) --isa c

check-exports: lib ## the libraries export what octet.h declares
	$(Q)scripts/check-exports $(BUILD)

check-install: all lib ## install into a scratch folder and build the example against it
	$(Q)scripts/check-install BUILD=$(BUILD)

check-example-scheme: $(BUILD)/octet ## the scheme of docs/add-a-scheme.md compiles and trains
	$(Q)CC='$(CC)' CFLAGS='$(CFLAGS_ALL)' OBJECTS='$(abspath $(CLI_OBJ) $(BUILD)/liboctet.a)' \
	    LIBS='$(CLI_LIBS) $(LDLIBS) $(LDFLAGS)' scripts/check-example-scheme

lint: ## format, layers, headers, forbidden words, size budget
	$(Q)scripts/lint

format: ## clang-format on every C file
	$(Q)git ls-files -z '*.c' '*.h' '*.cu' '*.cuh' | xargs -0 clang-format -i

size: ## lines per part; what is over budget
	$(Q)scripts/size

quickstart: $(BUILD)/octet ## fp32 and int8 side by side on Fashion-MNIST, in minutes
	rm -rf $(BUILD)/quickstart
	$(BUILD)/octet compare data/fashion-mnist-15k --model resnet8 --precision fp32,int8 \
	    --epochs 3 --batch-size 64 --max-drop 3 --output-dir $(BUILD)/quickstart

bench-claims: $(BUILD)/octet ## three processes of octet bench, appended to docs/bench-log.jsonl
	$(Q)OCTET=$(BUILD)/octet scripts/bench-claims

BINDIR := $(DESTDIR)$(PREFIX)/bin
LIBDIR := $(DESTDIR)$(PREFIX)/lib
INCDIR := $(DESTDIR)$(PREFIX)/include

install: all lib ## into $(DESTDIR)$(PREFIX): program, libraries, octet.h, octet.pc
	install -d $(BINDIR) $(LIBDIR)/pkgconfig $(LIBDIR)/octet $(INCDIR)
	$(if $(PLUGINS),install -m 755 $(PLUGINS) $(LIBDIR)/octet)
	install -m 755 $(BUILD)/octet $(BINDIR)
	install -m 644 $(BUILD)/liboctet.a $(LIBDIR)
	install -m 755 $(BUILD)/liboctet.so $(LIBDIR)/liboctet.so.$(VERSION)
	ln -sf liboctet.so.$(VERSION) $(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(LIBDIR)/liboctet.so
	install -m 644 include/octet.h $(INCDIR)
	printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$${prefix}/lib' 'includedir=$${prefix}/include' '' \
	    'Name: octet' 'Description: training of convolutional networks with 8-bit integers' \
	    'Version: $(VERSION)' 'Libs: -L$${libdir} -loctet' 'Libs.private: $(LDLIBS)' \
	    'Cflags: -I$${includedir}' >$(LIBDIR)/pkgconfig/octet.pc

uninstall: ## what install put there
	rm -f $(BINDIR)/octet $(LIBDIR)/liboctet.a $(LIBDIR)/liboctet.so $(LIBDIR)/$(SONAME) \
	    $(LIBDIR)/liboctet.so.$(VERSION) $(INCDIR)/octet.h $(LIBDIR)/pkgconfig/octet.pc \
	    $(LIBDIR)/octet/liboctet-cuda.so $(LIBDIR)/octet/liboctet-sim.so

clean: ## remove what make built
	rm -rf $(BUILD)

CUDA_ROOT ?= /usr/local/cuda
include tests/gpusim/gpusim.mk

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
