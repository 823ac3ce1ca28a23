# gpusim: runs nvcc-compiled objects without a GPU. `make gpusim` makes build/libgpusim.a, which an
# object built with --no-compress and PTX embedded links with instead of cudart.
GPUSIM_SRC := $(filter-out tests/gpusim/sim_alu_%,$(wildcard tests/gpusim/*.c))
GPUSIM_VEC := $(wildcard tests/gpusim/sim_alu_*.c)
GPUSIM_OBJ := $(GPUSIM_SRC:%.c=$(OBJ)/%.o) $(GPUSIM_VEC:%.c=$(OBJ)/%.base.o) \
    $(GPUSIM_VEC:%.c=$(OBJ)/%.avx512.o)

$(GPUSIM_OBJ): CFLAGS_ALL += -isystem $(CUDA_ROOT)/include

.PHONY: gpusim
gpusim: $(BUILD)/libgpusim.a ## build/libgpusim.a: a CUDA runtime that interprets PTX

$(BUILD)/libgpusim.a: $(GPUSIM_OBJ) $(STAMP)
	$(Q)rm -f $@ && ar rcs $@ $(GPUSIM_OBJ)

# Kernels of gpusim's own tests.
GPUSIM_TEST_CU := $(wildcard tests/gpusim/kernels/*.cu)
GPUSIM_TEST_OBJ := $(GPUSIM_TEST_CU:%.cu=$(OBJ)/%.cu.o)
# Named one by one: make would rather take another rule for a test than one with a new file in it.
$(GPUSIM_TEST_OBJ): $(OBJ)/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(Q)$(NVCC) $(NVCC_FLAGS) $(NVCC_PTX) $(TEST_SASS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@
# One has machine code, for one device only: its registers are known there.
$(OBJ)/tests/gpusim/kernels/registers.cu.o: TEST_SASS := -gencode arch=compute_80,code=sm_80

$(OBJ)/tests/test_gpusim_%.o: CFLAGS_ALL += -isystem $(CUDA_ROOT)/include -Itests/gpusim
$(BUILD)/tests/test_gpusim_%: $(OBJ)/tests/test_gpusim_%.o $(GPUSIM_TEST_OBJ) \
    $(BUILD)/libgpusim.a $(STAMP)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $(filter %.o,$^) $(BUILD)/libgpusim.a -o $@ $(TEST_LIBS) -lm -pthread
