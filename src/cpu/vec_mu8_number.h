/* What mu-law codes stand for, by table. The storage code is a staircase in w = 1 + 255 |v| /
 * code_max, of at most one step in each 32nd of an octave: within the 32nd b from 1 on it is
 * oct_mu8_base[b], and one more from oct_mu8_edge[b] on. test_codes holds the tables against the
 * definition (oct_real_on), which takes a logarithm and a power, for every w. */
#ifndef OCT_VEC_MU8_NUMBER_H
#define OCT_VEC_MU8_NUMBER_H

#include "base/numeric.h"

static const float oct_mu8_edge[257] = {0x1.05a67ap+0f, 0x1.1p+0f, 0x1.1153eap+0f, 0x1.1d86c2p+0f,
    0x1.28p+0f, 0x1.2a44fcp+0f, 0x1.3794cep+0f, 0x1.4p+0f, 0x1.457cb6p+0f, 0x1.5p+0f, 0x1.54038p+0f,
    0x1.6p+0f, 0x1.63304p+0f, 0x1.7p+0f, 0x1.730a64p+0f, 0x1.8p+0f, 0x1.8399a2p+0f, 0x1.9p+0f,
    0x1.94e616p+0f, 0x1.ap+0f, 0x1.a6f82ap+0f, 0x1.bp+0f, 0x1.b8p+0f, 0x1.b9d8bap+0f, 0x1.c8p+0f,
    0x1.cd90fp+0f, 0x1.d8p+0f, 0x1.ep+0f, 0x1.e22a7ap+0f, 0x1.fp+0f, 0x1.f7af5cp+0f, 0x1p+1f,
    0x1.07151p+1f, 0x1.1p+1f, 0x1.12d2dap+1f, 0x1.1f16ccp+1f, 0x1.28p+1f, 0x1.2be6dep+1f,
    0x1.38p+1f, 0x1.394956p+1f, 0x1.4744bap+1f, 0x1.5p+1f, 0x1.55dfdep+1f, 0x1.6p+1f,
    0x1.6521dep+1f, 0x1.7p+1f, 0x1.75123ap+1f, 0x1.8p+1f, 0x1.85b8acp+1f, 0x1.9p+1f, 0x1.971d5cp+1f,
    0x1.ap+1f, 0x1.a8p+1f, 0x1.a948cp+1f, 0x1.b8p+1f, 0x1.bc43c2p+1f, 0x1.c8p+1f, 0x1.dp+1f,
    0x1.d0179cp+1f, 0x1.ep+1f, 0x1.e4ce02p+1f, 0x1.fp+1f, 0x1.f8p+1f, 0x1.fa7106p+1f, 0x1.08p+2f,
    0x1.0885a6p+2f, 0x1.1453ep+2f, 0x1.2p+2f, 0x1.20a904p+2f, 0x1.2d8b08p+2f, 0x1.38p+2f,
    0x1.3b0042p+2f, 0x1.48p+2f, 0x1.490f3ap+2f, 0x1.57bedap+2f, 0x1.6p+2f, 0x1.67163ap+2f,
    0x1.7p+2f, 0x1.771ce8p+2f, 0x1.8p+2f, 0x1.87daaap+2f, 0x1.9p+2f, 0x1.98p+2f, 0x1.9957bep+2f,
    0x1.a8p+2f, 0x1.ab9c96p+2f, 0x1.b8p+2f, 0x1.beb23p+2f, 0x1.c8p+2f, 0x1.dp+2f, 0x1.d2a1cep+2f,
    0x1.ep+2f, 0x1.e7753ep+2f, 0x1.fp+2f, 0x1.f8p+2f, 0x1.fd369p+2f, 0x1.08p+3f, 0x1.09f84p+3f,
    0x1.15d704p+3f, 0x1.2p+3f, 0x1.223d7p+3f, 0x1.2f317ep+3f, 0x1.38p+3f, 0x1.3cb994p+3f,
    0x1.48p+3f, 0x1.4adc42p+3f, 0x1.58p+3f, 0x1.59a074p+3f, 0x1.68p+3f, 0x1.690d52p+3f, 0x1.78p+3f,
    0x1.792a76p+3f, 0x1.88p+3f, 0x1.89ffaap+3f, 0x1.98p+3f, 0x1.9b953ep+3f, 0x1.a8p+3f,
    0x1.adf3aap+3f, 0x1.b8p+3f, 0x1.cp+3f, 0x1.c12404p+3f, 0x1.dp+3f, 0x1.d52f94p+3f, 0x1.ep+3f,
    0x1.e8p+3f, 0x1.ea202ap+3f, 0x1.f8p+3f, 0x1.fffffep+3f, 0x1.08p+4f, 0x1.0b6ce2p+4f,
    0x1.175c48p+4f, 0x1.2p+4f, 0x1.23d412p+4f, 0x1.3p+4f, 0x1.30da46p+4f, 0x1.3e7554p+4f,
    0x1.48p+4f, 0x1.4cabc8p+4f, 0x1.58p+4f, 0x1.5b84bp+4f, 0x1.68p+4f, 0x1.6b0724p+4f, 0x1.78p+4f,
    0x1.7b3ae2p+4f, 0x1.88p+4f, 0x1.8c27acp+4f, 0x1.98p+4f, 0x1.9dd5e2p+4f, 0x1.a8p+4f, 0x1.bp+4f,
    0x1.b04e0cp+4f, 0x1.cp+4f, 0x1.c39948p+4f, 0x1.dp+4f, 0x1.d7c0e6p+4f, 0x1.ep+4f, 0x1.e8p+4f,
    0x1.ecceep+4f, 0x1.f8p+4f, 0x1p+5f, 0x1.0166a6p+5f, 0x1.0ce39p+5f, 0x1.18p+5f, 0x1.18e3acp+5f,
    0x1.256cfp+5f, 0x1.3p+5f, 0x1.328562p+5f, 0x1.4p+5f, 0x1.40338p+5f, 0x1.4e7ddep+5f, 0x1.58p+5f,
    0x1.5d6b8ep+5f, 0x1.68p+5f, 0x1.6d03c2p+5f, 0x1.78p+5f, 0x1.7d4e34p+5f, 0x1.88p+5f,
    0x1.8e52acp+5f, 0x1.98p+5f, 0x1.ap+5f, 0x1.a019aep+5f, 0x1.bp+5f, 0x1.b2abb8p+5f, 0x1.cp+5f,
    0x1.c612p+5f, 0x1.dp+5f, 0x1.d8p+5f, 0x1.da55dcp+5f, 0x1.e8p+5f, 0x1.ef814ep+5f, 0x1.f8p+5f,
    0x1p+6f, 0x1.02cf48p+6f, 0x1.0e5c46p+6f, 0x1.18p+6f, 0x1.1a6d34p+6f, 0x1.270806p+6f, 0x1.3p+6f,
    0x1.3432d2p+6f, 0x1.4p+6f, 0x1.41f41ap+6f, 0x1.5p+6f, 0x1.50527ep+6f, 0x1.5f5518p+6f,
    0x1.68p+6f, 0x1.6f0324p+6f, 0x1.78p+6f, 0x1.7f647p+6f, 0x1.88p+6f, 0x1.9p+6f, 0x1.9080bap+6f,
    0x1.ap+6f, 0x1.a260aap+6f, 0x1.bp+6f, 0x1.b50cacp+6f, 0x1.cp+6f, 0x1.c8p+6f, 0x1.c88e2cp+6f,
    0x1.d8p+6f, 0x1.dcee6ap+6f, 0x1.e8p+6f, 0x1.fp+6f, 0x1.f23786p+6f, 0x1p+7f, 0x1.0439e2p+7f,
    0x1.0fd71p+7f, 0x1.18p+7f, 0x1.1bf8e4p+7f, 0x1.28p+7f, 0x1.28a56p+7f, 0x1.35e2ap+7f, 0x1.4p+7f,
    0x1.43b72cp+7f, 0x1.5p+7f, 0x1.5229bp+7f, 0x1.6p+7f, 0x1.614152p+7f, 0x1.7p+7f, 0x1.710558p+7f,
    0x1.8p+7f, 0x1.817d8ap+7f, 0x1.9p+7f, 0x1.92b1d8p+7f, 0x1.ap+7f, 0x1.a4aad4p+7f, 0x1.bp+7f,
    0x1.b770fep+7f, 0x1.cp+7f, 0x1.c8p+7f, 0x1.cb0dd2p+7f, 0x1.d8p+7f, 0x1.df8a8ep+7f, 0x1.e8p+7f,
    0x1.fp+7f, 0x1.f4f18cp+7f, 0x1p+8f, 0x1.08p+8f};
static const uint8_t oct_mu8_base[257] = {0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10,
    11, 11, 12, 12, 12, 13, 13, 14, 14, 14, 15, 15, 16, 16, 17, 17, 18, 19, 19, 20, 20, 21, 22, 22,
    23, 23, 24, 24, 25, 25, 26, 26, 27, 27, 27, 28, 28, 29, 29, 29, 30, 30, 31, 31, 31, 32, 32, 33,
    34, 34, 35, 36, 36, 37, 37, 38, 39, 39, 40, 40, 41, 41, 42, 42, 42, 43, 43, 44, 44, 45, 45, 45,
    46, 46, 47, 47, 47, 48, 48, 49, 50, 50, 51, 52, 52, 53, 53, 54, 54, 55, 55, 56, 56, 57, 57, 58,
    58, 59, 59, 60, 60, 60, 61, 61, 62, 62, 62, 63, 63, 64, 64, 65, 66, 66, 67, 67, 68, 69, 69, 70,
    70, 71, 71, 72, 72, 73, 73, 74, 74, 75, 75, 75, 76, 76, 77, 77, 78, 78, 78, 79, 79, 79, 80, 81,
    81, 82, 83, 83, 84, 84, 85, 86, 86, 87, 87, 88, 88, 89, 89, 90, 90, 90, 91, 91, 92, 92, 93, 93,
    93, 94, 94, 95, 95, 95, 96, 97, 97, 98, 99, 99, 100, 100, 101, 101, 102, 103, 103, 104, 104,
    105, 105, 105, 106, 106, 107, 107, 108, 108, 108, 109, 109, 110, 110, 110, 111, 111, 112, 113,
    113, 114, 114, 115, 116, 116, 117, 117, 118, 118, 119, 119, 120, 120, 121, 121, 122, 122, 123,
    123, 124, 124, 124, 125, 125, 126, 126, 126, 127, 127};
static const float oct_mu8_decoded[128] = {0.0f, 0x1.6f0b1p-13f, 0x1.773bdap-12f, 0x1.1fc046p-11f,
    0x1.885aaep-11f, 0x1.f5a036p-11f, 0x1.33e31ap-10f, 0x1.6f823p-10f, 0x1.adca76p-10f,
    0x1.eeda54p-10f, 0x1.1968c8p-9f, 0x1.3ce8a8p-9f, 0x1.61fe2p-9f, 0x1.88bb48p-9f, 0x1.b1330cp-9f,
    0x1.db792cp-9f, 0x1.03d124p-8f, 0x1.1ae1fap-8f, 0x1.32fa58p-8f, 0x1.4c26p-8f, 0x1.66713ep-8f,
    0x1.81e8e6p-8f, 0x1.9e9a6p-8f, 0x1.bc93aep-8f, 0x1.dbe374p-8f, 0x1.fc98f6p-8f, 0x1.0f6218p-7f,
    0x1.213ae6p-7f, 0x1.33df9cp-7f, 0x1.475954p-7f, 0x1.5bb19p-7f, 0x1.70f23cp-7f, 0x1.8725bap-7f,
    0x1.9e56ep-7f, 0x1.b691p-7f, 0x1.cfdfecp-7f, 0x1.ea5p-7f, 0x1.02f712p-6f, 0x1.1163e8p-6f,
    0x1.20759p-6f, 0x1.30336p-6f, 0x1.40a50cp-6f, 0x1.51d298p-6f, 0x1.63c468p-6f, 0x1.76833cp-6f,
    0x1.8a183ep-6f, 0x1.9e8cfap-6f, 0x1.b3eb6ep-6f, 0x1.ca3e06p-6f, 0x1.e18faap-6f, 0x1.f9ebbap-6f,
    0x1.09af0ep-5f, 0x1.16f99ep-5f, 0x1.24dc08p-5f, 0x1.335d14p-5f, 0x1.4283d8p-5f, 0x1.5257b8p-5f,
    0x1.62e06cp-5f, 0x1.74260ap-5f, 0x1.8630fcp-5f, 0x1.990a16p-5f, 0x1.acba86p-5f, 0x1.c14beap-5f,
    0x1.d6c84ep-5f, 0x1.ed3a2ep-5f, 0x1.02563ep-4f, 0x1.0e9558p-4f, 0x1.1b605cp-4f, 0x1.28bd8ap-4f,
    0x1.36b368p-4f, 0x1.4548c6p-4f, 0x1.5484c4p-4f, 0x1.646edp-4f, 0x1.750ebp-4f, 0x1.866c8p-4f,
    0x1.9890bap-4f, 0x1.ab843cp-4f, 0x1.bf5042p-4f, 0x1.d3fe78p-4f, 0x1.e998f6p-4f, 0x1.001524p-3f,
    0x1.0bdeb8p-3f, 0x1.182ef8p-3f, 0x1.250beap-3f, 0x1.327bdp-3f, 0x1.40853ep-3f, 0x1.4f2f0cp-3f,
    0x1.5e8062p-3f, 0x1.6e80bap-3f, 0x1.7f37e4p-3f, 0x1.90ae08p-3f, 0x1.a2ebaep-3f, 0x1.b5f9bap-3f,
    0x1.c9e17ep-3f, 0x1.deacacp-3f, 0x1.f4656ep-3f, 0x1.058b3p-2f, 0x1.116548p-2f, 0x1.1dc6cap-2f,
    0x1.2ab5cp-2f, 0x1.38387ap-2f, 0x1.465592p-2f, 0x1.5513eap-2f, 0x1.647ab6p-2f, 0x1.74917ap-2f,
    0x1.85600ep-2f, 0x1.96eeaap-2f, 0x1.a945dep-2f, 0x1.bc6e9ep-2f, 0x1.d07244p-2f, 0x1.e55a94p-2f,
    0x1.fb31c6p-2f, 0x1.09014p-1f, 0x1.14ebf2p-1f, 0x1.215eccp-1f, 0x1.2e5fe2p-1f, 0x1.3bf58ap-1f,
    0x1.4a2668p-1f, 0x1.58f968p-1f, 0x1.6875c8p-1f, 0x1.78a316p-1f, 0x1.898938p-1f, 0x1.9b306cp-1f,
    0x1.ada152p-1f, 0x1.c0e4eap-1f, 0x1.d5049ap-1f, 0x1.ea0a36p-1f, 0x1p+0f};

/* The storage code of w, 1 <= w <= 256. */
static inline int oct_mu8_code_at(float w)
{
    uint32_t b = (oct_bits_of_f32(w) - 0x3f800000u) >> 18;
    return oct_mu8_base[b] + (w >= oct_mu8_edge[b]);
}

/* oct_real_on(OCT_GRID_MU8_NUMBER, x, ...) */
static inline float oct_mu8_real(float x, float inverse, float clip, int code_max)
{
    float v = oct_clampf(x * inverse, (float)code_max);
    float w = 1.0f + fabsf(v) * (code_max == OCT_CODE_MAX ? 2.00787402f : 1.56865157e-2f);
    float number = clip * oct_mu8_decoded[oct_mu8_code_at(w)];
    return v < 0.0f ? 0.0f - number : number;
}

#endif
