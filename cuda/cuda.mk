# The CUDA backend: two plug-ins of the same sources. liboctet-cuda.so runs on NVIDIA GPUs,
# liboctet-sim.so in tests/gpusim on the CPU. CUDA is found through CUDA_HOME, nvcc on PATH or the
# usual prefix; OCT_CUDA=off leaves it out.
OCT_CUDA ?= auto
# Machine code of the product, and the PTX that gpusim can run: CUDA_SASS=80 CUDA_PTX=80 is quick.
CUDA_SASS ?= 75 80 86 89 90 100 120
CUDA_PTX  ?= 75 80 90
# nvcc's objects do not depend on the C flags: builds with sanitizers share them.
CUDA_BUILD ?= $(BUILD)

NVCC :=
ifneq ($(OCT_CUDA),off)
NVCC := $(firstword $(wildcard $(CUDA_HOME:%=%/bin/nvcc)) $(shell command -v nvcc 2>/dev/null) \
    $(wildcard /usr/local/cuda/bin/nvcc))
endif
CUDA_ROOT := $(patsubst %/bin/nvcc,%,$(NVCC))
WHY_NO_CUDA := $(if $(filter off,$(OCT_CUDA)),OCT_CUDA=off,no nvcc in CUDA_HOME, PATH or /usr/local/cuda)

NVCC_FLAGS := -std=c++17 -O3 -ftz=true -prec-div=true -prec-sqrt=true --fmad=false --no-compress \
    -Werror all-warnings -Iinclude -Isrc -Icuda \
    -Xcompiler=-fPIC,-fvisibility=hidden,-fno-exceptions,-fno-threadsafe-statics
NVCC_PTX := $(foreach a,$(CUDA_PTX),-gencode arch=compute_$(a),code=compute_$(a))
NVCC_SASS := $(foreach a,$(CUDA_SASS),-gencode arch=compute_$(a),code=sm_$(a))

CUDA_CU := $(wildcard cuda/*.cu)
# What backend.h demands of arguments is checked by the same code as in the program, and products are
# cut into blocks by the same code as in its predictions.
CUDA_C := $(wildcard cuda/*.c) src/backend_check.c src/base/gpu_cut.c
CUDA_KEY := $(shell printf '%s' '$(NVCC) $(NVCC_FLAGS) $(NVCC_PTX)' | cksum | cut -d' ' -f1)
SASS_KEY := $(shell printf '%s' '$(CUDA_KEY) $(NVCC_SASS)' | cksum | cut -d' ' -f1)
CUDA_PTX_OBJ := $(CUDA_CU:cuda/%.cu=$(CUDA_BUILD)/cuda-ptx-$(CUDA_KEY)/%.o)
CUDA_SASS_OBJ := $(CUDA_CU:cuda/%.cu=$(CUDA_BUILD)/cuda-sass-$(SASS_KEY)/%.o)
CUDA_C_OBJ := $(CUDA_C:%.c=$(OBJ)/%.o)
# What a program that links the backend itself needs; oct_fail is then the library's.
CUDA_LINKED_OBJ := $(filter-out %/cuda_plugin.o,$(CUDA_C_OBJ))
CUDA_INCLUDES := -Icuda -isystem $(CUDA_ROOT)/include
CUDART := $(firstword $(wildcard $(CUDA_ROOT)/lib64/libcudart_static.a \
    $(CUDA_ROOT)/lib/libcudart_static.a))

$(CUDA_BUILD)/cuda-ptx-$(CUDA_KEY)/%.o: cuda/%.cu
	@mkdir -p $(@D)
	$(Q)$(NVCC) $(NVCC_FLAGS) $(NVCC_PTX) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

$(CUDA_BUILD)/cuda-sass-$(SASS_KEY)/%.o: cuda/%.cu
	@mkdir -p $(@D)
	$(Q)$(NVCC) $(NVCC_FLAGS) $(NVCC_PTX) $(NVCC_SASS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

$(OBJ)/cuda/%.o: CFLAGS_ALL += $(CUDA_INCLUDES)
$(OBJ)/tests/test_cuda_%.o: CFLAGS_ALL += $(CUDA_INCLUDES) -Itests/gpusim

# Nothing but oct_plugin_open leaves a plug-in, and nothing may be missing in it.
PLUGIN_LDFLAGS := -shared $(LDFLAGS) -Wl,--exclude-libs,ALL $(if $(SANITIZE),,-Wl,-z,defs)

$(BUILD)/liboctet-cuda.so: $(CUDA_SASS_OBJ) $(CUDA_C_OBJ) $(STAMP)
	$(Q)$(CC) $(PLUGIN_LDFLAGS) $(CUDA_SASS_OBJ) $(CUDA_C_OBJ) $(CUDART) -o $@ \
	    -lm -ldl -lrt -pthread

$(BUILD)/liboctet-sim.so: $(CUDA_PTX_OBJ) $(CUDA_C_OBJ) $(BUILD)/libgpusim.a $(STAMP)
	$(Q)$(CC) $(PLUGIN_LDFLAGS) $(CUDA_PTX_OBJ) $(CUDA_C_OBJ) $(BUILD)/libgpusim.a -o $@ \
	    -lm -pthread

# Each tests/test_cuda_NAME.c links the backend and gpusim itself: it plays with their inside.
$(BUILD)/tests/test_cuda_%: $(OBJ)/tests/test_cuda_%.o $(TEST_SUPPORT) $(CUDA_PTX_OBJ) \
    $(CUDA_LINKED_OBJ) $(BUILD)/libgpusim.a $(BUILD)/liboctet.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $(filter %.o,$^) $(TEST_SUPPORT) $(BUILD)/libgpusim.a \
	    $(BUILD)/liboctet.a -o $@ $(TEST_LIBS) $(LDLIBS)

# Each tests/test_sim_NAME.c or test_long_sim_NAME.c opens the device sim as the program does.
$(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_sim_*.c tests/test_long_sim_*.c)): | $(BUILD)/liboctet-sim.so

.PHONY: has-cuda
has-cuda:
	@test -n '$(NVCC)'

ifeq ($(NVCC),)
PLUGINS :=
.PHONY: say-cuda
say-cuda:
	@echo "CUDA backend: left out ($(WHY_NO_CUDA))"
else
PLUGINS := $(BUILD)/liboctet-cuda.so $(BUILD)/liboctet-sim.so
.PHONY: say-cuda
say-cuda:
endif

-include $(wildcard $(CUDA_BUILD)/cuda-ptx-$(CUDA_KEY)/*.d $(CUDA_BUILD)/cuda-sass-$(SASS_KEY)/*.d)

# Faults seeded in the backend (tests/mutations): mutation-base makes what scripts/mutation-suite
# links them with and says where it is; MUTATION_TESTS are the programs it runs.
.PHONY: mutations mutation-base
mutations: ## seed faults in the CUDA backend: do the tests find them?
	$(Q)scripts/mutation-suite $(if $(NVCC),,--skip '$(WHY_NO_CUDA)')

mutation-base: $(BUILD)/liboctet-sim.so $(MUTATION_TESTS:%=$(BUILD)/tests/%)
	@printf '%s\n' 'BUILD=$(BUILD)' 'OBJ=$(OBJ)' 'PTX=$(CUDA_BUILD)/cuda-ptx-$(CUDA_KEY)'

# Registers, spills, occupancy and main loops of every kernel against tests/cuda-gates.json; wants
# machine code of every architecture (the default CUDA_SASS).
.PHONY: cuda-gates
cuda-gates: $(BUILD)/liboctet-cuda.so ## judge the machine code of the CUDA kernels
	$(Q)scripts/cuda-gates $<

# The parts of scripts/gpu_selftest: the backend linked with the CUDA runtime, and with gpusim.
SELFTEST_C_OBJ := $(patsubst %.c,$(OBJ)/%.o,$(wildcard tests/selftest/*.c))
SELFTEST_PTX_OBJ := $(CUDA_BUILD)/cuda-ptx-$(CUDA_KEY)/selftest/wrappers.o
SELFTEST_SASS_OBJ := $(CUDA_BUILD)/cuda-sass-$(SASS_KEY)/selftest/wrappers.o
SELFTEST_LIBS := $(LDLIBS) -lrt
$(SELFTEST_C_OBJ): CFLAGS_ALL += $(CUDA_INCLUDES) -Itests/selftest

$(SELFTEST_PTX_OBJ): tests/selftest/wrappers.cu
	@mkdir -p $(@D)
	$(Q)$(NVCC) $(NVCC_FLAGS) $(NVCC_PTX) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

$(SELFTEST_SASS_OBJ): tests/selftest/wrappers.cu
	@mkdir -p $(@D)
	$(Q)$(NVCC) $(NVCC_FLAGS) $(NVCC_PTX) $(NVCC_SASS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

$(BUILD)/selftest-cuda: $(SELFTEST_C_OBJ) $(SELFTEST_SASS_OBJ) $(CUDA_SASS_OBJ) \
    $(CUDA_LINKED_OBJ) $(TEST_SUPPORT) $(BUILD)/liboctet.a $(STAMP)
	$(Q)$(CC) $(LDFLAGS) $(filter %.o,$^) $(TEST_SUPPORT) $(BUILD)/liboctet.a $(CUDART) -o $@ \
	    $(SELFTEST_LIBS)

$(BUILD)/selftest-sim: $(SELFTEST_C_OBJ) $(SELFTEST_PTX_OBJ) $(CUDA_PTX_OBJ) \
    $(CUDA_LINKED_OBJ) $(TEST_SUPPORT) $(BUILD)/libgpusim.a $(BUILD)/liboctet.a $(STAMP)
	$(Q)$(CC) $(LDFLAGS) $(filter %.o,$^) $(TEST_SUPPORT) $(BUILD)/libgpusim.a \
	    $(BUILD)/liboctet.a -o $@ $(SELFTEST_LIBS)

-include $(wildcard $(CUDA_BUILD)/cuda-ptx-$(CUDA_KEY)/selftest/*.d \
    $(CUDA_BUILD)/cuda-sass-$(SASS_KEY)/selftest/*.d)
